//! The leaves of a policy: endpoints, parts of a request, times and numbers, each with its finding and its schema.

use std::num::NonZeroU32;

use domain::{
    Endpoint, Part,
    usage::{
        REQUESTS_PER_MINUTE_MAX, RequestsPerMinute, STREAMS_MAX, Streams, TOKENS_PER_DAY_MAX, TokensPerDay,
        keep_alive_seconds,
    },
};
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::{
    hint::nearest_or_list,
    leaf::text_leaf,
    walk::{Findings, Read, Spot, Value},
};

impl Read for Endpoint {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        let paths: Vec<&str> = Self::ALL.iter().map(|endpoint| endpoint.path()).collect();
        json_schema!({ "enum": paths })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            text.parse().map_err(|_| {
                let hint = nearest_or_list(text, Self::ALL.iter().map(|endpoint| endpoint.path()));
                (format!("`{text}` is not an endpoint that can be allowed"), hint)
            })
        })
    }
}

impl Read for Part {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        let words: Vec<&str> = Self::ALL.iter().map(|part| part.word()).collect();
        json_schema!({ "enum": words })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            text.parse().map_err(|_| {
                let hint = nearest_or_list(text, Self::ALL.iter().map(|part| part.word()));
                (
                    format!("`{text}` is no part of a request that can be refused"),
                    hint,
                )
            })
        })
    }
}

/// A list of endpoints, and whether its author wrote none at all.
#[derive(Debug)]
pub(crate) struct Endpoints {
    pub(crate) list: Vec<Spot<Endpoint>>,
    pub(crate) is_empty: bool,
}

impl Read for Endpoints {
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Vec::<Spot<Endpoint>>::schema(generator);
        schema.insert("minItems".to_owned(), 1.into());
        schema
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        let list = Vec::read(value, findings)?;
        let is_empty = value.get_ref().as_array().is_some_and(|items| items.is_empty());
        Some(Self { list, is_empty })
    }
}

/// A time of `keep_alive`, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeepAlive(pub(crate) NonZeroU32);

impl Read for KeepAlive {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["10m"] })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        text_leaf(value, findings, |text| {
            let hint = || Some("1s to 7days in whole seconds, as in \"10m\"".to_owned());
            let time = humantime::parse_duration(text)
                .map_err(|_| (format!("`{text}` is not a duration"), hint()))?;
            keep_alive_seconds(time)
                .map(Self)
                .map_err(|wrong| (wrong.to_string(), hint()))
        })
    }
}

/// A number of tokens, at least 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tokens(pub(crate) NonZeroU32);

impl Read for Tokens {
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": u32::MAX })
    }

    fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
        let number = u64::read(value, findings)?;
        let tokens = u32::try_from(number).ok().and_then(NonZeroU32::new);
        if tokens.is_none() {
            let message = format!("a number of tokens is 1 to {}", u32::MAX);
            findings.push(value.span(), message, None);
        }
        tokens.map(Self)
    }
}

macro_rules! limits {
    ($($name:ident, $max:ident;)*) => { $(
        impl Read for $name {
            fn schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "integer", "minimum": 1, "maximum": $max })
            }

            fn read(value: &Value<'_>, findings: &mut Findings) -> Option<Self> {
                let number = u64::read(value, findings)?;
                let hint = || Some("leave the key out for no limit".to_owned());
                Self::try_from(number)
                    .map_err(|wrong| findings.push(value.span(), wrong.to_string(), hint()))
                    .ok()
            }
        }
    )* };
}
limits! {
    RequestsPerMinute, REQUESTS_PER_MINUTE_MAX;
    Streams, STREAMS_MAX;
    TokensPerDay, TOKENS_PER_DAY_MAX;
}
