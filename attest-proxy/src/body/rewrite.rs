//! JSON read, judged and written again in one pass, without a tree.
//!
//! Owns: one walk over the text that writes what it understood, in the order in which it came (Ollama keeps the order
//! of a schema's keys). On its way it leaves out keys that no table has, clamps what the policy clamps, and fills in what must be there.
//! Refuses: duplicate keys at any depth, case twins of known keys, trailing data, anything that is not an object.
//! A text without escapes, such as an image in base64, is copied once, from the request into what is forwarded.

use std::{borrow::Cow, collections::HashSet, fmt};

use domain::{Endpoint, OptionRules};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{
    BodyError,
    fields::{self, Field},
    known,
    rules::{self, Fate},
    seen::{KEPT, Number, Seen},
};

/// From so many keys on, an object's keys are looked up by hash instead of one by one.
const MANY_KEYS: usize = 24;
/// The most keys of one object and those around it: they are remembered, and no budget counts them.
const MAX_KEYS: usize = 65_536;

/// A body in our own serialisation, within the rules.
#[derive(Debug)]
pub(super) struct Rewritten {
    pub(super) bytes: Vec<u8>,
    /// The top level's `model`.
    pub(super) model: Option<String>,
    /// The top level's `name`.
    pub(super) name: Option<String>,
}

/// Reads, judges and writes `body`.
pub(super) fn rewrite(endpoint: Endpoint, body: &[u8], rules: &OptionRules) -> Result<Rewritten, BodyError> {
    let mut state = State {
        out: Vec::with_capacity(body.len().saturating_add(64)),
        keys: Vec::with_capacity(MANY_KEYS),
        endpoint,
        rules,
        model: None,
        name: None,
        alias: None,
        capped: false,
        fault: None,
    };
    // Looked at once as a whole, no string has to be looked at by itself.
    let text = std::str::from_utf8(body).map_err(|e| BodyError::Json(e.to_string()))?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Value {
        state: &mut state,
        place: Place::Root,
    }
    .deserialize(&mut reader)
    .and_then(|_| reader.end());
    match (state.fault, read) {
        (Some(fault), _) => Err(fault),
        (None, Err(error)) => Err(BodyError::Json(error.to_string())),
        (None, Ok(())) => Ok(Rewritten {
            bytes: state.out,
            model: state.model,
            name: state.name,
        }),
    }
}

struct State<'de, 'r> {
    out: Vec<u8>,
    /// The keys of all open objects, innermost last.
    keys: Vec<Cow<'de, str>>,
    endpoint: Endpoint,
    rules: &'r OptionRules,
    model: Option<String>,
    name: Option<String>,
    /// The bound of the answer under a name that Ollama may not read.
    alias: Option<Number>,
    /// Whether the answer is bounded already.
    capped: bool,
    /// Why the walk ended, if not for the JSON.
    fault: Option<BodyError>,
}

/// Where a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The whole body.
    Root,
    /// The value of `options`.
    Options,
    /// The value of `messages` or `input`.
    Messages,
    /// One of them.
    Message,
    /// Somewhere in one of them.
    Within,
    /// The value of `tools`.
    Tools,
    /// One of them.
    Tool,
    /// Where keys mean something to Ollama, and nothing to a policy.
    Plain,
    /// Where keys mean nothing to Ollama.
    Opaque,
}

impl Place {
    /// Where the items of a list stand.
    const fn item(self) -> Self {
        match self {
            Self::Messages => Self::Message,
            Self::Tools => Self::Tool,
            Self::Message => Self::Within,
            Self::Tool | Self::Options | Self::Root => Self::Plain,
            Self::Within | Self::Plain | Self::Opaque => self,
        }
    }

    /// Where the value of a key stands, when the key is no field of the top level.
    fn below(self, key: &str) -> Self {
        let opaque = known::is_opaque(key);
        match self {
            Self::Opaque => Self::Opaque,
            _ if opaque => Self::Opaque,
            // The arguments of a call, in Anthropic's words.
            Self::Message | Self::Messages | Self::Within if key == "input" => Self::Opaque,
            Self::Message | Self::Messages | Self::Within => Self::Within,
            Self::Root | Self::Options | Self::Tools | Self::Tool | Self::Plain => Self::Plain,
        }
    }
}

/// One value, whatever it is.
struct Value<'s, 'de, 'r> {
    state: &'s mut State<'de, 'r>,
    place: Place,
}

impl<'de> Value<'_, 'de, '_> {
    fn json<E: de::Error>(&mut self, value: impl serde::Serialize) -> Result<(), E> {
        serde_json::to_writer(&mut self.state.out, &value).map_err(E::custom)
    }

    /// Nothing but an object is a body, and nothing but objects are messages, tools and options.
    fn scalar<E: de::Error>(&mut self, found: &str) -> Result<(), E> {
        match self.place {
            Place::Root | Place::Message | Place::Tool => {
                Err(E::custom(format_args!("{found} where an object is expected")))
            }
            _ => Ok(()),
        }
    }

    fn number<E: de::Error>(mut self, number: Number, value: impl serde::Serialize) -> Result<Seen<'de>, E> {
        self.scalar("a number")?;
        self.json(value)?;
        Ok(Seen::Number(number))
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_, 'de, '_> {
    type Value = Seen<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Seen<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, 'de, '_> {
    type Value = Seen<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: de::Error>(mut self, value: bool) -> Result<Seen<'de>, E> {
        self.scalar("a boolean")?;
        self.json(value)?;
        Ok(Seen::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Seen<'de>, E> {
        self.number(Number::Signed(value), value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Seen<'de>, E> {
        self.number(Number::Unsigned(value), value)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Seen<'de>, E> {
        self.number(Number::Float(value), value)
    }

    /// A text with escapes in it.
    fn visit_str<E: de::Error>(mut self, value: &str) -> Result<Seen<'de>, E> {
        self.scalar("a string")?;
        self.json(value)?;
        Ok(if value.len() > KEPT {
            Seen::LongText
        } else {
            Seen::Text(Cow::Owned(value.to_owned()))
        })
    }

    /// A text without escapes: it is what our own serialisation would write.
    fn visit_borrowed_str<E: de::Error>(mut self, value: &'de str) -> Result<Seen<'de>, E> {
        self.scalar("a string")?;
        self.state.quoted(value);
        Ok(if value.len() > KEPT {
            Seen::LongText
        } else {
            Seen::Text(Cow::Borrowed(value))
        })
    }

    fn visit_unit<E: de::Error>(mut self) -> Result<Seen<'de>, E> {
        self.scalar("null")?;
        self.state.out.extend_from_slice(b"null");
        Ok(Seen::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Seen<'de>, A::Error> {
        self.scalar("a list")?;
        let Self { state, place } = self;
        let inner = place.item();
        state.out.push(b'[');
        let mut empty = true;
        loop {
            // The comma is written before it is known whether an item follows, and taken back if none does.
            let mark = state.out.len();
            if !empty {
                state.out.push(b',');
            }
            let item = Value {
                state: &mut *state,
                place: inner,
            };
            if items.next_element_seed(item)?.is_none() {
                state.out.truncate(mark);
                break;
            }
            empty = false;
        }
        state.out.push(b']');
        Ok(Seen::List { empty })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Seen<'de>, A::Error> {
        let Self { state, place } = self;
        state.out.push(b'{');
        let base = state.keys.len();
        let mut many: Option<HashSet<Cow<'de, str>>> = None;
        let mut empty = true;
        while let Some(key) = entries.next_key_seed(Key {
            opaque: place == Place::Opaque,
        })? {
            let at = state.open(key, base, &mut many, empty)?;
            let (inner, judge) = state.enter(place);
            let value = state.out.len();
            let seen = entries.next_value_seed(Value {
                state: &mut *state,
                place: inner,
            })?;
            let fate = match state.judge(judge, &seen) {
                Ok(fate) => fate,
                Err(fault) => {
                    state.fault = Some(fault);
                    return Err(de::Error::custom("against the policy"));
                }
            };
            match fate {
                Fate::Stays => empty = false,
                Fate::Becomes(instead) => {
                    state.out.truncate(value);
                    state.out.extend_from_slice(instead.as_bytes());
                    empty = false;
                }
                Fate::Goes => state.out.truncate(at),
            }
        }
        state.close(place, &mut empty);
        state.keys.truncate(base);
        state.out.push(b'}');
        Ok(Seen::Object { empty })
    }
}

/// What is to be done with the value of the last key.
#[derive(Debug, Clone, Copy)]
enum Judge {
    Field(Option<Field>),
    Setting(Option<fields::Setting>),
    Message,
    Within,
    Tool,
    Nothing,
}

impl<'de> State<'de, '_> {
    fn quoted(&mut self, text: &str) {
        self.out.reserve(text.len().saturating_add(2));
        self.out.push(b'"');
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(b'"');
    }

    /// Writes a key, which must be new among its object's, which begin at `base`. Says where the entry began.
    fn open<E: de::Error>(
        &mut self,
        key: Cow<'de, str>,
        base: usize,
        many: &mut Option<HashSet<Cow<'de, str>>>,
        first: bool,
    ) -> Result<usize, E> {
        if self.keys.len() >= MAX_KEYS {
            return Err(E::custom("more keys than anybody needs"));
        }
        let before = self.keys.get(base..).unwrap_or_default();
        let new = match many {
            None if before.len() < MANY_KEYS => !before.contains(&key),
            None => {
                // The keys of before are known to differ.
                let mut set: HashSet<Cow<'de, str>> = before.iter().cloned().collect();
                let new = set.insert(key.clone());
                *many = Some(set);
                new
            }
            Some(set) => set.insert(key.clone()),
        };
        if !new {
            return Err(E::custom("a key is there twice"));
        }
        let at = self.out.len();
        if !first {
            self.out.push(b',');
        }
        match &key {
            Cow::Borrowed(plain) => self.quoted(plain),
            Cow::Owned(escaped) => serde_json::to_writer(&mut self.out, escaped).map_err(E::custom)?,
        }
        self.out.push(b':');
        self.keys.push(key);
        Ok(at)
    }

    /// Where the value of the last key stands, and what is asked of it.
    fn enter(&self, place: Place) -> (Place, Judge) {
        let key = self.keys.last().map_or("", |key| key);
        match place {
            Place::Root => {
                let field = fields::find(self.endpoint, key);
                let inner = match field {
                    Some(Field::Messages) => Place::Messages,
                    Some(Field::Tools) => Place::Tools,
                    Some(Field::Options) => Place::Options,
                    _ => Place::Plain.below(key),
                };
                (inner, Judge::Field(field))
            }
            Place::Options => (Place::Plain, Judge::Setting(fields::setting(key))),
            Place::Message => (place.below(key), Judge::Message),
            Place::Messages | Place::Within => (place.below(key), Judge::Within),
            Place::Tool => (place.below(key), Judge::Tool),
            Place::Tools | Place::Plain | Place::Opaque => (place.below(key), Judge::Nothing),
        }
    }

    fn judge(&mut self, judge: Judge, seen: &Seen<'_>) -> Result<Fate, BodyError> {
        let key = self.keys.last().map_or("", |key| key);
        match judge {
            Judge::Nothing => Ok(Fate::Stays),
            Judge::Message if key == "role" => rules::role(self.rules, seen).map(|()| Fate::Stays),
            Judge::Message | Judge::Within => rules::within(self.rules, key, seen).map(|()| Fate::Stays),
            Judge::Tool => rules::tool(key, seen).map(|()| Fate::Stays),
            Judge::Setting(None) | Judge::Field(None) => Ok(Fate::Goes),
            Judge::Setting(Some(setting)) => {
                let fate = rules::setting(self.rules, setting, seen)?;
                if setting == fields::Setting::NumPredict && fate != Fate::Goes {
                    self.capped = true;
                }
                Ok(fate)
            }
            Judge::Field(Some(field)) => self.field(field, seen),
        }
    }

    fn field(&mut self, field: Field, seen: &Seen<'_>) -> Result<Fate, BodyError> {
        let rules = self.rules;
        match (field, seen) {
            (Field::Model, Seen::Text(text)) => self.model = Some(text.clone().into_owned()),
            (Field::Name, Seen::Text(text)) => self.name = Some(text.clone().into_owned()),
            (Field::Model | Field::Name, Seen::LongText) => {
                return Err(BodyError::Model("a name of more than 512 bytes".to_owned()));
            }
            (Field::Model | Field::Name, _) => return Err(BodyError::NoModel),
            (Field::Stream, Seen::Null | Seen::Bool(_)) => {}
            (Field::Stream, _) => return Err(BodyError::Type("stream")),
            (Field::Messages, Seen::Null | Seen::List { .. }) => {}
            (Field::Messages, Seen::Text(_) | Seen::LongText)
                if self.endpoint == Endpoint::OpenAiResponses => {}
            (Field::Messages, _) => return Err(BodyError::Type("messages")),
            (Field::Tools, Seen::Null | Seen::List { .. }) => {
                rules::refuse(rules, domain::Part::Tools, "tools", !seen.says_nothing())?;
            }
            (Field::Tools, _) => return Err(BodyError::Type("tools")),
            // As if it were absent: filled in at the end, if it must be.
            (Field::Options, Seen::Null) => return Ok(Fate::Goes),
            (Field::Options, Seen::Object { .. }) => self.capped = true,
            (Field::Options, _) => return Err(BodyError::Type("options")),
            (Field::KeepAlive, _) => return rules::keep_alive(rules, seen),
            (Field::Cap, _) => {
                let fate = rules::cap(rules.max_num_predict, seen, "max_tokens")?;
                self.capped |= fate != Fate::Goes;
                return Ok(fate);
            }
            (Field::CapAlias, _) => {
                let fate = rules::cap(rules.max_num_predict, seen, "max_completion_tokens")?;
                if let (Fate::Stays, Seen::Number(number)) = (&fate, seen) {
                    self.alias = Some(*number);
                }
                return Ok(fate);
            }
            (Field::Part(part), _) => {
                rules::refuse(rules, part, part.word(), !seen.says_nothing())?;
            }
            (Field::Never, _) if seen.says_nothing() => return Ok(Fate::Goes),
            (Field::Never, _) => return Err(BodyError::Never("_debug_render_only")),
            (Field::Free, _) => {}
        }
        Ok(Fate::Stays)
    }

    /// Fills in the bound of the answer at the end of the object that should have it.
    fn close(&mut self, place: Place, empty: &mut bool) {
        let Some(max) = self.rules.max_num_predict else {
            return;
        };
        let writes = matches!(self.endpoint, Endpoint::Generate | Endpoint::Chat);
        let entry = match place {
            Place::Options if writes && !self.capped => format!("\"num_predict\":{max}"),
            Place::Root if writes && !self.capped => format!("\"options\":{{\"num_predict\":{max}}}"),
            Place::Root if !self.capped => match fields::cap(self.endpoint) {
                // What the client asked for under the other name is within the bound: it was clamped too.
                Some(key) => match self.alias {
                    Some(Number::Signed(n)) => format!("\"{key}\":{n}"),
                    Some(Number::Unsigned(n)) => format!("\"{key}\":{n}"),
                    _ => format!("\"{key}\":{max}"),
                },
                None => return,
            },
            _ => return,
        };
        if !*empty {
            self.out.push(b',');
        }
        self.out.extend_from_slice(entry.as_bytes());
        *empty = false;
    }
}

/// A key, and that it is no twin of a known one.
struct Key {
    opaque: bool,
}

impl Key {
    fn check<E: de::Error>(&self, key: &str) -> Result<(), E> {
        if !self.opaque && known::is_twin(key) {
            return Err(E::custom("a key differs from a known one in case alone"));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Cow<'de, str>, E> {
        self.check(key)?;
        Ok(Cow::Owned(key.to_owned()))
    }

    fn visit_borrowed_str<E: de::Error>(self, key: &'de str) -> Result<Cow<'de, str>, E> {
        self.check(key)?;
        Ok(Cow::Borrowed(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Within a free key, where nothing is left out.
    fn text(inner: &str) -> Result<String, String> {
        let body = format!("{{\"tool_choice\":{inner}}}");
        rewrite(Endpoint::OpenAiChat, body.as_bytes(), &OptionRules::default())
            .map(|r| {
                let text = String::from_utf8(r.bytes).unwrap();
                text.strip_prefix("{\"tool_choice\":")
                    .unwrap()
                    .strip_suffix('}')
                    .unwrap()
                    .to_owned()
            })
            .map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_written_means_what_was_read() {
        for body in [
            r#"{}"#,
            r#"{"z":1,"a":[1,-2,3.5,true,false,null,"\"\\\u0001é"],"m":{"b":{},"a":[]},"e":[[],[{}]]}"#,
            r#"{"n":18446744073709551615,"s":-9223372036854775808,"f":0.1,"g":1e300}"#,
        ] {
            let out = text(body).unwrap();
            let value = |t: &str| serde_json::from_str::<serde_json::Value>(t).unwrap();
            assert_eq!(value(&out), value(body));
            assert_eq!(text(&out).unwrap(), out, "writing is not stable");
        }
        assert_eq!(
            text(r#"{ "z" : 1 , "\u0061" : [ 1 , 2 ] }"#).unwrap(),
            r#"{"z":1,"a":[1,2]}"#
        );
    }

    #[test]
    fn keys_are_bounded_in_number() {
        let keys = |n: usize| {
            let all: Vec<_> = (0..n).map(|k| format!("\"k{k}\":0")).collect();
            format!("{{{}}}", all.join(","))
        };
        // One more is around them.
        assert!(text(&keys(MAX_KEYS - 1)).is_ok());
        assert!(text(&keys(MAX_KEYS)).unwrap_err().contains("more keys"));
    }

    #[test]
    fn duplicates_are_found_at_every_depth_and_width() {
        assert!(text(r#"{"a":{"b":1},"c":{"b":1}}"#).is_ok());
        assert!(text(r#"{"a":[{"b":1,"b":1}]}"#).unwrap_err().contains("twice"));
        for width in [2, MANY_KEYS, MANY_KEYS + 1, 500] {
            let keys = |last: usize| {
                let all: Vec<_> = (0..width).chain([last]).map(|k| format!("\"k{k}\":0")).collect();
                format!("{{{}}}", all.join(","))
            };
            assert!(text(&keys(width)).is_ok(), "{width}");
            assert!(
                text(&keys(0)).is_err() && text(&keys(width - 1)).is_err(),
                "{width}"
            );
        }
    }

    #[test]
    fn schemas_may_name_their_fields_as_they_like() {
        assert!(text(r#"{"function":{"parameters":{"properties":{"Model":{}}}}}"#).is_ok());
        assert!(text(r#"{"format":{"properties":{"Name":1}}}"#).is_ok());
        assert!(text(r#"{"format":{"a":1,"a":2}}"#).is_err());
        assert!(text(r#"[{"Role":"system"}]"#).unwrap_err().contains("case alone"));
    }

    #[test]
    fn deep_nesting_is_an_error() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(text(&deep).unwrap_err().contains("recursion"));
    }
}
