//! The model's answer as Ollama streams it: one JSON object per line, the last with `done`.
//!
//! Owns: cutting the stream into lines and taking the text out of `/api/chat` (`message.content`) and `/api/generate`
//! (`response`). An error in mid-stream is an object with `error` under status 200; a stream that ends without `done`
//! was cut off, and is never taken for a whole answer.
//! The model controls the text: [`clean`] takes the control characters out before it reaches a terminal.

use serde::{Deserialize, Serialize};

/// The longest line that is read, in bytes.
const MAX_LINE: usize = 1 << 20;

/// Why an answer is not whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnswerError {
    /// The stream broke off.
    #[error("the answer broke off before its end")]
    CutOff,
    /// The model server reported an error in mid-stream.
    #[error("the model server says: {0}")]
    Upstream(String),
    /// Not what Ollama streams.
    #[error("the answer is not a stream of Ollama's")]
    Nonsense,
    /// A line of more than a mebibyte.
    #[error("a line of the answer has more than {MAX_LINE} bytes")]
    TooLong,
}

/// What the last object says about the whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// The model that answered.
    #[serde(default)]
    pub(crate) model: String,
    /// Tokens of the question.
    #[serde(default)]
    pub(crate) prompt_eval_count: u64,
    /// Tokens of the answer.
    #[serde(default)]
    pub(crate) eval_count: u64,
    /// Nanoseconds.
    #[serde(default)]
    pub(crate) total_duration: u64,
}

#[derive(Deserialize)]
struct Line {
    message: Option<Message>,
    response: Option<String>,
    error: Option<String>,
    #[serde(default)]
    done: bool,
    #[serde(flatten)]
    totals: Totals,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: String,
}

/// Reads an answer as it arrives.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    rest: Vec<u8>,
    totals: Option<Totals>,
}

impl Answer {
    /// Takes the next bytes; returns the text that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<String, AnswerError> {
        self.rest.extend_from_slice(bytes);
        let mut text = String::new();
        while let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            text.push_str(&self.line(&line)?);
        }
        if self.rest.len() > MAX_LINE {
            return Err(AnswerError::TooLong);
        }
        Ok(text)
    }

    /// The stream has ended; returns what is left of the text and what the last object said.
    pub(crate) fn finish(mut self) -> Result<(String, Totals), AnswerError> {
        let last = std::mem::take(&mut self.rest);
        let text = self.line(&last)?;
        self.totals
            .map(|totals| (text, totals))
            .ok_or(AnswerError::CutOff)
    }

    fn line(&mut self, line: &[u8]) -> Result<String, AnswerError> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(String::new());
        }
        if line.len() > MAX_LINE {
            return Err(AnswerError::TooLong);
        }
        // A line that was cut in the middle is the stream's end, not nonsense.
        let line: Line = serde_json::from_slice(line).map_err(|error| {
            if error.is_eof() {
                AnswerError::CutOff
            } else {
                AnswerError::Nonsense
            }
        })?;
        if let Some(error) = line.error {
            return Err(AnswerError::Upstream(clean(&error)));
        }
        if line.done {
            self.totals = Some(line.totals);
        }
        let text = line
            .message
            .map(|m| m.content)
            .or(line.response)
            .unwrap_or_default();
        Ok(clean(&text))
    }
}

/// Text without control characters, line feeds and tabs excepted: nothing in it moves a terminal's cursor, colours it or
/// writes to its clipboard.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHAT: &str = concat!(
        r#"{"model":"m","message":{"role":"assistant","content":"From "},"done":false}"#,
        "\n",
        r#"{"model":"m","message":{"role":"assistant","content":"platform 7é."},"done":false}"#,
        "\n",
        r#"{"model":"m","message":{"role":"assistant","content":""},"done":true,"eval_count":5,"prompt_eval_count":9,"total_duration":1000}"#,
        "\n",
    );

    fn whole(text: &str) -> Result<(String, Totals), AnswerError> {
        let mut answer = Answer::default();
        let mut out = answer.push(text.as_bytes())?;
        let (rest, totals) = answer.finish()?;
        out.push_str(&rest);
        Ok((out, totals))
    }

    #[test]
    fn chat_and_generate_are_read() {
        let (text, totals) = whole(CHAT).unwrap();
        assert_eq!(text, "From platform 7é.");
        assert_eq!(
            (totals.model.as_str(), totals.eval_count, totals.prompt_eval_count),
            ("m", 5, 9)
        );
        let generated = "{\"response\":\"a\",\"done\":false}\n\n{\"response\":\"b\",\"done\":true}";
        assert_eq!(whole(generated).unwrap().0, "ab");
    }

    #[test]
    fn a_stream_without_its_end_is_not_an_answer() {
        let first = CHAT.lines().next().unwrap();
        for cut in ["", first, CHAT.strip_suffix("on\":1000}\n").unwrap()] {
            assert_eq!(whole(cut), Err(AnswerError::CutOff), "{cut}");
        }
    }

    #[test]
    fn an_error_in_mid_stream_ends_it() {
        let text = "{\"response\":\"a\",\"done\":false}\n{\"error\":\"out of \\u001b[31mmemory\"}\n";
        assert_eq!(
            whole(text),
            Err(AnswerError::Upstream("out of [31mmemory".to_owned()))
        );
    }

    #[test]
    fn what_is_not_ollamas_is_refused() {
        for text in ["<html>\n", "[]\n", "{\"response\":1}\n", "data: {}\n"] {
            assert_eq!(whole(text), Err(AnswerError::Nonsense), "{text}");
        }
        assert_eq!(whole(&"x".repeat(MAX_LINE + 1)), Err(AnswerError::TooLong));
        assert_eq!(
            whole(&format!("{}\n", "x".repeat(MAX_LINE + 1))),
            Err(AnswerError::TooLong)
        );
    }

    #[test]
    fn nothing_in_it_drives_a_terminal() {
        let text = "{\"response\":\"a\\u001b]52;c;x\\u0007\\u009b2J\\r\\n\\tb\",\"done\":true}";
        assert_eq!(whole(text).unwrap().0, "a]52;c;x2J\n\tb");
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(cuts in proptest::collection::vec(0_usize..CHAT.len(), 0..8)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut answer = Answer::default();
            let (mut text, mut from) = (String::new(), 0);
            for cut in cuts.into_iter().chain([CHAT.len()]) {
                text.push_str(&answer.push(&CHAT.as_bytes()[from..cut]).unwrap());
                from = cut;
            }
            prop_assert_eq!(text, "From platform 7é.");
            prop_assert_eq!(answer.finish().unwrap().1.eval_count, 5);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut answer = Answer::default();
            let pushed = answer.push(&bytes).is_ok();
            prop_assert!(answer.finish().is_err() || pushed);
        }
    }
}
