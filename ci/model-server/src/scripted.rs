//! The scripted engine: the same question gets the same words, at a steady pace, from no model at all.
//!
//! Owns: the script. Refuses: to look like a model; its answers say what they are. A word counts as a token.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::engine::{Ask, Engine, EngineError, Finish, Prompt, Reason, Role};

/// See the module.
pub(crate) struct Scripted {
    pace: Duration,
}

impl Scripted {
    /// `pace` lies between two words.
    pub(crate) fn new(pace: Duration) -> Self {
        Self { pace }
    }
}

impl Engine for Scripted {
    fn answer(&mut self, ask: &Ask, emit: &mut dyn FnMut(&str) -> bool) -> Result<Finish, EngineError> {
        let started = Instant::now();
        let question = question(&ask.prompt);
        let answer = script(question);
        let mut tokens = 0;
        let mut reason = Reason::Stop;
        for word in answer.split_inclusive(' ') {
            if tokens == ask.limit {
                reason = Reason::Length;
                break;
            }
            sleep(self.pace);
            if !emit(word) {
                break;
            }
            tokens += 1;
        }
        Ok(Finish {
            reason,
            prompt_tokens: question.split_whitespace().count(),
            prompt_time: Duration::from_nanos(1),
            tokens,
            time: started.elapsed(),
        })
    }
}

fn question(prompt: &Prompt) -> &str {
    match prompt {
        Prompt::Raw(text) => text,
        Prompt::Turns(turns) => turns
            .iter()
            .rev()
            .find(|turn| turn.role == Role::User)
            .map_or("", |turn| turn.content.as_str()),
    }
}

fn script(question: &str) -> String {
    if question.to_lowercase().contains("bern") {
        "The next train to Bern leaves from platform 7. (This answer is scripted: no model was asked.)"
            .to_owned()
    } else {
        format!("You asked: {question} (This answer is scripted: no model was asked.)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Sampling, Turn};

    fn say(question: &str, limit: usize) -> (String, Finish) {
        let turns = vec![Turn {
            role: Role::User,
            content: question.to_owned(),
        }];
        let ask = Ask {
            prompt: Prompt::Turns(turns),
            limit,
            sampling: Sampling {
                temperature: 0.0,
                top_p: 1.0,
                seed: 0,
            },
        };
        let mut text = String::new();
        let finish = Scripted::new(Duration::ZERO).answer(&ask, &mut |piece| {
            text.push_str(piece);
            true
        });
        (text, finish.unwrap())
    }

    #[test]
    fn the_same_question_gets_the_same_answer() {
        let (text, finish) = say("Which platform does the train to Bern leave from?", 100);
        assert!(text.contains("platform 7"), "{text}");
        assert_eq!(
            say("Which platform does the train to Bern leave from?", 100).0,
            text
        );
        assert_eq!(finish.reason, Reason::Stop);
        assert_eq!(finish.tokens, text.split_whitespace().count());
    }

    #[test]
    fn the_limit_ends_an_answer() {
        let (text, finish) = say("anything", 2);
        assert_eq!(
            (text.as_str(), finish.reason, finish.tokens),
            ("You asked: ", Reason::Length, 2)
        );
    }
}
