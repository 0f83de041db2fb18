//! Patterns of command lines, word by word.
//!
//! Owns: the language. `*` is any characters within a word and `?` one of them; a word `**` is any number of whole
//! words. So `*` never lets another argument in. Nor do any of them stand for a quote, a backslash, or what only looks like a
//! space: with those, one reader takes two words for one (`"lockdown=integrity quiet"`), and what the pattern demands is not
//! what the kernel does. A pattern has them where the line has. Time is bounded: words and pattern are.

use std::{fmt, str::FromStr};

/// The longest pattern in bytes, and the longest command line that matches any: the kernel takes no more.
const MAX_LEN: usize = 4096;

/// Why a text is not a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// No word at all.
    #[error("a pattern for command lines has at least one word")]
    Empty,
    /// Longer than any command line.
    #[error("a pattern for command lines has 4096 bytes at most")]
    TooLong,
}

/// A pattern such as `/vmlinuz-* root=UUID=* ro quiet`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLinePattern(Box<[Box<str>]>);

impl FromStr for CommandLinePattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        if text.len() > MAX_LEN {
            return Err(InvalidPattern::TooLong);
        }
        let words: Box<[Box<str>]> = text.split_whitespace().map(Into::into).collect();
        if words.is_empty() {
            return Err(InvalidPattern::Empty);
        }
        Ok(Self(words))
    }
}

impl fmt::Display for CommandLinePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

impl CommandLinePattern {
    /// Whether these are the words that the pattern wants, in its order.
    pub(super) fn matches(&self, words: &[String]) -> bool {
        let len = words.iter().map(|word| word.len().saturating_add(1));
        let short = len.fold(0, usize::saturating_add) <= MAX_LEN;
        // As many as the pattern has: then each is where the pattern has it, and no star stands for one.
        let literal = doubtful(words) == doubtful(&self.0);
        short && literal && glob(&self.0, words, |p| &**p == "**", |p, word| word_matches(p, word))
    }
}

/// How many characters there are that make words of one reader other words to another.
fn doubtful(words: &[impl AsRef<str>]) -> usize {
    let of = |c: &char| matches!(c, '"' | '\'' | '\\') || c.is_control() || c.is_whitespace();
    let counts = words.iter().map(|word| word.as_ref().chars().filter(of).count());
    counts.fold(0, usize::saturating_add)
}

fn word_matches(pattern: &str, word: &str) -> bool {
    let pattern: Vec<_> = pattern.chars().collect();
    let word: Vec<_> = word.chars().collect();
    glob(&pattern, &word, |p| *p == '*', |p, c| *p == '?' || p == c)
}

/// Whether `pattern` matches all of `items`, where a star stands for any number of them. Goes back to the last star
/// only: at most as many steps as the product of both lengths.
fn glob<P, T>(
    pattern: &[P],
    items: &[T],
    is_star: impl Fn(&P) -> bool,
    one: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut p, mut i) = (0_usize, 0_usize);
    let mut back = None;
    while let Some(item) = items.get(i) {
        let wanted = pattern.get(p);
        if wanted.is_some_and(&is_star) {
            p = p.saturating_add(1);
            back = Some((p, i));
        } else if wanted.is_some_and(|wanted| one(wanted, item)) {
            p = p.saturating_add(1);
            i = i.saturating_add(1);
        } else if let Some((star, from)) = back {
            let from = from.saturating_add(1);
            back = Some((star, from));
            (p, i) = (star, from);
        } else {
            return false;
        }
    }
    pattern.iter().skip(p).all(is_star)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, line: &str) -> bool {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        pattern.parse::<CommandLinePattern>().unwrap().matches(&words)
    }

    #[test]
    fn a_star_stays_within_its_word() {
        assert!(matches(
            "/vmlinuz-* root=UUID=* ro",
            "/vmlinuz-6.1 root=UUID=12 ro"
        ));
        assert!(!matches(
            "/vmlinuz-* root=* ro",
            "/vmlinuz-6.1 root=x init=/bin/sh ro"
        ));
        assert!(!matches("/vmlinuz-*", "/vmlinuz-6.1 init=/bin/sh"));
        assert!(!matches("a * c", "a c"));
        assert!(matches("a*b*c", "axbxbxc") && !matches("a*b*c", "axbx"));
        assert!(matches("a?c", "abc") && !matches("a?c", "ac"));
    }

    #[test]
    fn two_stars_are_whole_words() {
        for line in ["a z", "a b z", "a b c z z"] {
            assert!(matches("a ** z", line), "{line}");
        }
        assert!(!matches("a ** z", "a z b"));
        assert!(matches("** quiet **", "quiet") && !matches("** quiet **", "quite"));
        // Only a word of its own is: within one, two stars are like one.
        assert!(!matches("a**", "a b"));
    }

    #[test]
    fn patterns_have_words_and_an_end() {
        assert_eq!("".parse::<CommandLinePattern>(), Err(InvalidPattern::Empty));
        assert_eq!(" \n".parse::<CommandLinePattern>(), Err(InvalidPattern::Empty));
        let of = |len| "x".repeat(len).parse::<CommandLinePattern>();
        assert_eq!(of(MAX_LEN + 1), Err(InvalidPattern::TooLong));
        assert!(of(MAX_LEN).is_ok());
        assert_eq!(" a  b ".parse::<CommandLinePattern>().unwrap().to_string(), "a b");
    }

    #[test]
    fn quotes_and_backslashes_are_where_the_pattern_has_them() {
        assert!(matches(r#"a "b=c *" d"#, r#"a "b=c x" d"#));
        for (pattern, line) in [
            ("a * d", r#"a "x d"#),
            ("a ** d", r#"a "x y d"#),
            ("a b d", r#"a "b d""#),
            ("a b=* d", "a b='x d"),
            ("a b=?x d", r"a b=\x d"),
            ("a b=* d", "a b=x\u{1}y d"),
            (r#"a "b" * d"#, r#"a "b "x d"#),
        ] {
            assert!(!matches(pattern, line), "{pattern}: {line}");
        }
        // One reader's space is another's letter: the kernel's is what parts words here.
        let wide = ["a\u{2003}b".to_owned()];
        assert!(!"a*".parse::<CommandLinePattern>().unwrap().matches(&wide));
    }

    #[test]
    fn what_no_kernel_takes_matches_nothing() {
        assert!(matches("**", &"x".repeat(MAX_LEN - 1)));
        assert!(!matches("**", &"x".repeat(MAX_LEN)));
    }
}
