//! What a policy makes of each value of a request, as the values come.
//!
//! Owns: which rule is asked of which key, and what of the request is remembered for the end: its model, and whether its answer is
//! bounded. Writes nothing.

use std::borrow::Cow;

use domain::{Endpoint, OptionRules, Part};

use super::{
    BodyError,
    fields::{self, Field, Setting},
    number::Number,
    place::Place,
    rules::{self, Fate},
    seen::Seen,
};

/// What is to be done with the value of a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Judge {
    Field(Option<Field>),
    Setting(Option<Setting>),
    Message,
    Within,
    Tool,
    Nothing,
}

/// A policy's verdicts on one request.
#[derive(Debug)]
pub(super) struct Verdicts<'de, 'r> {
    endpoint: Endpoint,
    rules: &'r OptionRules,
    /// The top level's `model`.
    pub(super) model: Option<Cow<'de, str>>,
    /// The top level's `name`.
    pub(super) name: Option<Cow<'de, str>>,
    /// The bound of the answer under a name that Ollama may not read.
    alias: Option<Number>,
    /// Whether the answer is bounded already.
    capped: bool,
}

impl<'de, 'r> Verdicts<'de, 'r> {
    pub(super) const fn new(endpoint: Endpoint, rules: &'r OptionRules) -> Self {
        Self {
            endpoint,
            rules,
            model: None,
            name: None,
            alias: None,
            capped: false,
        }
    }

    /// Where the value of a key stands, and what is asked of it.
    #[inline(always)]
    pub(super) fn enter(&self, place: Place, key: &str) -> (Place, Judge) {
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

    /// Judges the value of a key.
    #[inline]
    pub(super) fn judge(&mut self, judge: Judge, key: &str, seen: &Seen<'de>) -> Result<Fate, BodyError> {
        match judge {
            Judge::Nothing => Ok(Fate::Stays),
            Judge::Message if key == "role" => rules::role(self.rules, seen).map(|()| Fate::Stays),
            Judge::Message | Judge::Within => rules::within(self.rules, key, seen).map(|()| Fate::Stays),
            Judge::Tool => rules::tool(key, seen).map(|()| Fate::Stays),
            Judge::Setting(None) | Judge::Field(None) => Ok(Fate::Goes),
            Judge::Setting(Some(setting)) => {
                let fate = rules::setting(self.rules, setting, seen)?;
                if setting == Setting::NumPredict && fate != Fate::Goes {
                    self.capped = true;
                }
                Ok(fate)
            }
            Judge::Field(Some(field)) => self.field(field, seen),
        }
    }

    fn field(&mut self, field: Field, seen: &Seen<'de>) -> Result<Fate, BodyError> {
        let rules = self.rules;
        match (field, seen) {
            (Field::Model, Seen::Text(text)) => self.model = Some(text.get()),
            (Field::Name, Seen::Text(text)) => self.name = Some(text.get()),
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
                rules::refuse(rules, Part::Tools, "tools", !seen.says_nothing())?;
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

    /// The bound of the answer, as an entry for the end of the object that should have it and has not.
    pub(super) fn missing(&self, place: Place) -> Option<String> {
        let max = self.rules.max_num_predict?;
        let writes = matches!(self.endpoint, Endpoint::Generate | Endpoint::Chat);
        match place {
            Place::Options if writes && !self.capped => Some(format!("\"num_predict\":{max}")),
            Place::Root if writes && !self.capped => Some(format!("\"options\":{{\"num_predict\":{max}}}")),
            Place::Root if !self.capped => {
                let key = fields::cap(self.endpoint)?;
                // What the client asked for under the other name is within the bound: it was clamped too.
                Some(match self.alias {
                    Some(Number::Signed(n)) => format!("\"{key}\":{n}"),
                    Some(Number::Unsigned(n)) => format!("\"{key}\":{n}"),
                    _ => format!("\"{key}\":{max}"),
                })
            }
            _ => None,
        }
    }
}
