//! Random bytes for new volumes: the kernel's, or drawn from a seed where somebody wants the same bytes again.
//!
//! Owns: that two streams of one seed have nothing in common (HMAC-SHA256 in counter mode, NIST SP 800-108 4.1, keyed by the seed,
//! labelled by the stream's name), and that a kernel without random bytes is remembered: what was made then is thrown away.

use ring::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};

use crate::ports::NoEntropy;

/// The shortest seed, in bytes.
pub(super) const MIN_SEED: usize = 32;

/// Where random bytes come from.
pub(super) enum Entropy {
    /// The kernel.
    System,
    /// A seed.
    Seed(hmac::Key),
}

impl Entropy {
    /// `None`: the seed is too short to be one.
    pub(super) fn of_seed(seed: &[u8]) -> Option<Self> {
        (seed.len() >= MIN_SEED).then(|| Self::Seed(hmac::Key::new(hmac::HMAC_SHA256, seed)))
    }

    /// A stream of its own for each name.
    pub(super) fn stream(&self, name: &str) -> Stream {
        let seed = match self {
            Self::System => None,
            Self::Seed(key) => Some((key.clone(), format!("signalbox volume 1\0{name}\0"))),
        };
        Stream {
            seed,
            counter: 0,
            failed: false,
        }
    }
}

/// A stream of random bytes.
pub(super) struct Stream {
    seed: Option<(hmac::Key, String)>,
    counter: u64,
    failed: bool,
}

impl Stream {
    /// Fills `room`; where that fails, [`Stream::sound`] knows.
    pub(super) fn fill(&mut self, room: &mut [u8]) {
        let Some((key, label)) = &self.seed else {
            self.failed |= SystemRandom::new().fill(room).is_err();
            return;
        };
        for chunk in room.chunks_mut(32) {
            let mut context = hmac::Context::with_key(key);
            context.update(&self.counter.to_be_bytes());
            context.update(label.as_bytes());
            self.counter = self.counter.wrapping_add(1);
            for (to, from) in chunk.iter_mut().zip(context.sign().as_ref()) {
                *to = *from;
            }
        }
    }

    /// As [`Stream::fill`], told at once.
    pub(super) fn try_fill(&mut self, room: &mut [u8]) -> Result<(), NoEntropy> {
        self.fill(room);
        self.sound()
    }

    /// So many random bytes.
    pub(super) fn draw<const N: usize>(&mut self) -> Result<[u8; N], NoEntropy> {
        let mut bytes = [0; N];
        self.try_fill(&mut bytes).map(|()| bytes)
    }

    /// Whether all that was drawn is random.
    pub(super) const fn sound(&self) -> Result<(), NoEntropy> {
        if self.failed { Err(NoEntropy) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_and_name_give_the_same_bytes_and_others_do_not() {
        let draw = |seed: &[u8], name: &str| -> [u8; 80] {
            Entropy::of_seed(seed).unwrap().stream(name).draw().unwrap()
        };
        let one = draw(&[1; 32], "a");
        assert_eq!(one, draw(&[1; 32], "a"));
        for other in [draw(&[2; 32], "a"), draw(&[1; 32], "b"), draw(&[1; 33], "a")] {
            assert_ne!(one, other);
        }
        assert_ne!(one[..32], one[32..64]);
        assert!(Entropy::of_seed(&[1; 31]).is_none());
        let system: [[u8; 32]; 2] = [Entropy::System, Entropy::System].map(|e| e.stream("a").draw().unwrap());
        assert_ne!(system[0], system[1]);
    }
}
