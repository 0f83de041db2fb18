//! From TOML with spans to raw values with spans, collecting every finding on the way.
//!
//! Owns: how a value of the wrong type, a missing key and an unknown key are told; and the macro by which a section
//! is declared once, for the reader and for the JSON Schema. serde stops at the first error; a person who writes a
//! manifest wants them all, so this module reads the tree itself.
//! `None` from a reader always means that a finding was pushed.

use std::{borrow::Cow, ops::Range};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A TOML value and where it is.
pub(crate) type Value<'i> = Spanned<DeValue<'i>>;

/// Everything that was found wrong so far: where, what, and a hint.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<(Range<usize>, String, Option<String>)>);

impl Findings {
    pub(crate) fn push(&mut self, span: Range<usize>, message: impl Into<String>, hint: Option<String>) {
        self.0.push((span, message.into(), hint));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_vec(self) -> Vec<(Range<usize>, String, Option<String>)> {
        self.0
    }
}

/// A raw value and where it stands in the text.
#[derive(Debug, Clone)]
pub(crate) struct Spot<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

/// What can be read from a TOML value.
pub(crate) trait Read: Sized {
    /// The name of its definition in the schema; `None`: it is written out where it is used.
    const DEFINITION: Option<&'static str> = None;

    /// Its JSON Schema.
    fn schema(generator: &mut SchemaGenerator) -> Schema;

    /// Reads it, or says what is wrong.
    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self>;
}

/// Says that something of another type was expected.
pub(crate) fn wrong_type(value: &Value<'_>, wanted: &str, findings: &mut Findings) {
    let found = match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    findings.push(value.span(), format!("expected {wanted}, found {found}"), None);
}

impl<T: Read> JsonSchema for Spot<T> {
    fn schema_name() -> Cow<'static, str> {
        T::DEFINITION.unwrap_or("value").into()
    }

    fn inline_schema() -> bool {
        T::DEFINITION.is_none()
    }

    fn schema_id() -> Cow<'static, str> {
        std::any::type_name::<T>().into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::schema(generator)
    }
}

impl Read for String {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        let Some(text) = value.get_ref().as_str() else {
            wrong_type(value, "a string", findings);
            return None;
        };
        Some(text.to_owned())
    }
}

impl Read for bool {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "boolean" })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        let found = value.get_ref().as_bool();
        if found.is_none() {
            wrong_type(value, "true or false", findings);
        }
        found
    }
}

impl Read for u64 {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 0 })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        let Some(integer) = value.get_ref().as_integer() else {
            wrong_type(value, "an integer", findings);
            return None;
        };
        let parsed = Self::from_str_radix(integer.as_str(), integer.radix());
        if parsed.is_err() {
            findings.push(value.span(), "expected an integer of 0 or more", None);
        }
        parsed.ok()
    }
}

/// A list. One bad element does not hide the next.
impl<T: Read> Read for Vec<Spot<T>> {
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let items = generator.subschema_for::<Spot<T>>();
        json_schema!({ "type": "array", "items": items })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        let Some(list) = value.get_ref().as_array() else {
            wrong_type(value, "an array", findings);
            return None;
        };
        Some(list.iter().filter_map(|item| spot(item, findings)).collect())
    }
}

/// A table whose keys are names that the author chose, in the order of the text.
#[derive(Debug)]
pub(crate) struct Entries<K, V> {
    /// Those that could be read.
    pub(crate) list: Vec<(Spot<K>, Spot<V>)>,
    /// Whether the author wrote none at all.
    pub(crate) is_empty: bool,
}

/// A name or number that an author writes as a key.
pub(crate) trait Key: Sized {
    /// What its text looks like, as an ECMA regular expression.
    const PATTERN: &'static str;

    /// Reads it, or says what is wrong: message and hint.
    fn parse(text: &str) -> Result<Self, (String, Option<String>)>;
}

impl<K: Key, V: Read> Read for Entries<K, V> {
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<Spot<V>>();
        json_schema!({
            "type": "object",
            "patternProperties": { (K::PATTERN): value },
            "additionalProperties": false,
        })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        let Some(table) = value.get_ref().as_table() else {
            wrong_type(value, "a table", findings);
            return None;
        };
        let mut list = Vec::with_capacity(table.len());
        for (key, value) in table {
            let name = K::parse(key.get_ref())
                .map_err(|(message, hint)| findings.push(key.span(), message, hint))
                .ok();
            let value = spot(value, findings);
            if let (Some(name), Some(value)) = (name, value) {
                let span = key.span();
                list.push((Spot { value: name, span }, value));
            }
        }
        list.sort_by_key(|(key, _)| key.span.start);
        let is_empty = table.is_empty();
        Some(Self { list, is_empty })
    }
}

/// A value that somebody wrote, also where it could not be read: told apart from one that is absent.
#[derive(Debug)]
pub(crate) struct Tried<T>(pub(crate) Option<T>);

impl<T: Read> Read for Tried<T> {
    const DEFINITION: Option<&'static str> = T::DEFINITION;

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        T::schema(generator)
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        Some(Self(T::read(value, findings)))
    }
}

/// Reads a value and keeps its place.
pub(crate) fn spot<T: Read>(value: &Value<'_>, findings: &mut Findings) -> Option<Spot<T>> {
    let span = value.span();
    T::read(value, findings).map(|value| Spot { value, span })
}

/// A table with a fixed set of keys, while it is being read.
pub(crate) struct Section<'a, 'i> {
    table: &'a DeTable<'i>,
    span: Range<usize>,
}

impl<'a, 'i> Section<'a, 'i> {
    pub(crate) fn open(value: &'a Value<'i>, findings: &mut Findings) -> Option<Self> {
        let Some(table) = value.get_ref().as_table() else {
            wrong_type(value, "a table", findings);
            return None;
        };
        let span = value.span();
        Some(Self { table, span })
    }

    /// Reads a key that may be absent. `_doc` is there so that both kinds are called alike.
    pub(crate) fn optional<T: Read>(
        &self,
        key: &str,
        _doc: &str,
        findings: &mut Findings,
    ) -> Option<Spot<T>> {
        let (_, value) = self.table.iter().find(|(name, _)| name.get_ref() == key)?;
        spot(value, findings)
    }

    /// Reads a key that must be there; when it is not, `doc` becomes the hint.
    pub(crate) fn required<T: Read>(&self, key: &str, doc: &str, findings: &mut Findings) -> Option<Spot<T>> {
        if !self.table.iter().any(|(name, _)| name.get_ref() == key) {
            let mut hint = doc.trim().trim_end_matches('.').to_owned();
            if let Some(first) = hint.get_mut(..1) {
                first.make_ascii_lowercase();
            }
            findings.push(self.span.clone(), format!("`{key}` is missing here"), Some(hint));
        }
        self.optional(key, doc, findings)
    }

    /// Tells every key that is not one of `known`.
    pub(crate) fn close(&self, known: &[&str], findings: &mut Findings) {
        for (key, _) in self.table {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let hint = crate::hint::nearest_or_list(name, known.iter().copied());
                findings.push(key.span(), format!("unknown key `{name}`"), hint);
            }
        }
    }
}

/// Declares a section once: its keys for the reader, their docs for the schema.
macro_rules! section {
    (
        $(#[doc = $doc:literal])*
        $name:ident as $definition:literal {
            $( $(#[doc = $field_doc:literal])* $need:ident $key:literal $field:ident: $ty:ty, )*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug)]
        pub(crate) struct $name {
            $( $(#[doc = $field_doc])* pub(crate) $field: Option<$crate::walk::Spot<$ty>>, )*
        }

        impl $crate::walk::Read for $name {
            const DEFINITION: Option<&'static str> = Some($definition);

            fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let mut properties = serde_json::Map::new();
                let mut required: Vec<&str> = Vec::new();
                $(
                    let mut property = generator.subschema_for::<$crate::walk::Spot<$ty>>();
                    property.insert("description".to_owned(), concat!($($field_doc),*).trim().into());
                    properties.insert($key.to_owned(), property.to_value());
                    if stringify!($need) == "required" {
                        required.push($key);
                    }
                )*
                schemars::json_schema!({
                    "type": "object",
                    "description": concat!($($doc),*).trim(),
                    "properties": properties,
                    "required": required,
                    "additionalProperties": false,
                })
            }

            fn read(
                value: &$crate::walk::Value<'_>,
                findings: &mut $crate::walk::Findings,
            ) -> Option<Self> {
                let section = $crate::walk::Section::open(value, findings)?;
                let read = Self { $( $field: section.$need($key, concat!($($field_doc),*), findings), )* };
                section.close(&[$($key),*], findings);
                Some(read)
            }
        }
    };
}
pub(crate) use section;
