//! The sections of a policy as they are written.

use domain::{
    Part,
    usage::{RequestsPerMinute, Streams, TokensPerDay},
};

use super::leaf::{Endpoints, KeepAlive, Tokens};
use crate::{
    certificate::RuleWord,
    evidence::EvidenceSection,
    leaf::SessionTtl,
    walk::{Spot, section},
};

section! {
    /// What a device must prove and may do.
    PolicySection as "policy" {
        /// The models: names, or patterns in which * is any characters but a slash and ? is one; "*" is any model. What runs in a cloud is allowed by its literal name alone.
        required "models" models: Vec<Spot<String>>,
        /// The endpoints, by their literal paths (all of inference and reading when absent).
        optional "endpoints" endpoints: Endpoints,
        /// Which options a request may set, and how far (all, without bounds, when absent).
        optional "options" options: OptionsSection,
        /// How much a device may use (without bounds when absent).
        optional "limits" limits: LimitsSection,
        /// How long a session lasts, 1m to 1h (10m when absent).
        optional "session-ttl" session_ttl: SessionTtl,
        /// What a device's TLS client certificate counts for: it is not looked at (never, when absent), it stands in for the pre-shared key where no evidence is wanted (accepted), or it is needed beside that key (required).
        optional "client-certificate" client_certificate: RuleWord,
        /// What a quote must show; when absent, the pre-shared key alone is enough.
        optional "evidence" evidence: EvidenceSection,
    }
}

section! {
    /// Which options a request may set, and how far.
    OptionsSection as "options" {
        /// keep_alive of less becomes this, so also 0, which unloads the model for everybody.
        optional "min-keep-alive" min_keep_alive: KeepAlive,
        /// keep_alive of more becomes this, so also a negative one, which keeps the model loaded for ever.
        optional "max-keep-alive" max_keep_alive: KeepAlive,
        /// num_ctx of more becomes this; a request without it gets the server's own.
        optional "max-num-ctx" max_num_ctx: Tokens,
        /// num_predict (max_tokens and its like on /v1) of more, without end or absent becomes this.
        optional "max-num-predict" max_num_predict: Tokens,
        /// What a request must not have in it, under whatever key each API has it.
        optional "refuse" refuse: Vec<Spot<Part>>,
    }
}

section! {
    /// How much a device may use.
    LimitsSection as "limits" {
        /// Requests in a minute.
        optional "requests-per-minute" requests_per_minute: RequestsPerMinute,
        /// Answers that run at the same time.
        optional "streams" streams: Streams,
        /// Tokens that models read for it in a day (UTC).
        optional "prompt-tokens-per-day" prompt_tokens_per_day: TokensPerDay,
        /// Tokens that models write for it in a day (UTC).
        optional "output-tokens-per-day" output_tokens_per_day: TokensPerDay,
    }
}
