//! What a device may do with the models: which ones, by which endpoints, with which options, how often.
//!
//! Owns: the grammar and bounds of these values, for the manifest that declares them, the registry that keeps them and the
//! proxy that holds devices to them. Judges nothing itself but whether a pattern means a name.

mod endpoint;
mod limits;
mod model;
mod options;

pub use endpoint::{Endpoint, UnknownEndpoint};
pub use limits::{
    InvalidLimit, Limits, REQUESTS_PER_MINUTE_MAX, RequestsPerMinute, STREAMS_MAX, Streams,
    TOKENS_PER_DAY_MAX, TokensPerDay,
};
pub use model::{InvalidModelPattern, MODEL_LEN_MAX, MODELS_MAX, ModelPattern};
pub use options::{
    InvalidKeepAlive, KEEP_ALIVE_MAX, KeepAliveRange, OptionRules, Part, UnknownPart, keep_alive_seconds,
};
