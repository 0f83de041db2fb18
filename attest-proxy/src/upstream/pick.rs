//! Which server takes a request. Pure.
//!
//! Owns: the order of reasons. Only servers that are asked at all; of these, only those that have the model (if none is
//! known to have it, any: Ollama's own answer says that there is no such model, and a list can be a moment old); of
//! these, only those with a free place; and of these the one with the least to do for its weight. A server that would
//! have to load the model first counts as [`COLD`] answers busier, so that a model stays where it is until that costs
//! more than loading it.

/// What having to load the model counts for, in running answers.
pub(super) const COLD: usize = 4;

/// A server, as far as the choice needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    /// Whether it may be asked.
    pub(super) usable: bool,
    /// Whether it has the model; `None`: not known.
    pub(super) has: Option<bool>,
    /// Whether the model is in its memory.
    pub(super) loaded: bool,
    /// Its running answers.
    pub(super) running: usize,
    /// How many it may have.
    pub(super) places: usize,
    /// Its share, compared with the others'.
    pub(super) weight: usize,
}

/// What was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice<S> {
    /// This one.
    Server(S),
    /// Those that could are full.
    Full,
    /// None may be asked.
    Nobody,
}

pub(super) fn pick(candidates: &[Candidate]) -> Choice<usize> {
    let usable = || candidates.iter().enumerate().filter(|(_, c)| c.usable);
    if usable().next().is_none() {
        return Choice::Nobody;
    }
    let somebody_has = usable().any(|(_, c)| c.has != Some(false));
    let free = || usable().filter(|(_, c)| (c.has != Some(false) || !somebody_has) && c.running < c.places);
    let somebody_loaded = free().any(|(_, c)| c.loaded);
    let cost = |c: Candidate| {
        let load = if somebody_loaded && !c.loaded { COLD } else { 0 };
        c.running.saturating_add(1).saturating_add(load)
    };
    let best = free()
        // Compared as fractions, without dividing; of equals the first, which is likelier to have the model.
        .reduce(|best, other| {
            let (a, b) = (best.1, other.1);
            if cost(*b).saturating_mul(a.weight) < cost(*a).saturating_mul(b.weight) {
                other
            } else {
                best
            }
        });
    best.map_or(Choice::Full, |(at, _)| Choice::Server(at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: Candidate = Candidate {
        usable: true,
        has: Some(true),
        loaded: true,
        running: 0,
        places: 8,
        weight: 1,
    };

    fn busy(running: usize) -> Candidate {
        Candidate { running, ..PLAIN }
    }

    #[test]
    fn the_least_busy_for_its_weight_is_taken() {
        assert_eq!(pick(&[busy(2), busy(1), busy(3)]), Choice::Server(1));
        assert_eq!(pick(&[busy(1), busy(1)]), Choice::Server(0));
        let strong = Candidate { weight: 3, ..busy(4) };
        assert_eq!(pick(&[busy(1), strong]), Choice::Server(1));
        assert_eq!(pick(&[busy(0), strong]), Choice::Server(0));
    }

    #[test]
    fn a_loaded_model_is_worth_a_few_answers() {
        let cold = Candidate {
            loaded: false,
            ..PLAIN
        };
        assert_eq!(pick(&[cold, busy(COLD - 1)]), Choice::Server(1));
        assert_eq!(pick(&[cold, busy(COLD + 1)]), Choice::Server(0));
        // Where nobody has it in memory, it makes no difference.
        let strong = Candidate { weight: 2, ..cold };
        assert_eq!(
            pick(&[Candidate { running: 2, ..strong }, cold]),
            Choice::Server(1)
        );
    }

    #[test]
    fn servers_without_the_model_are_not_asked_unless_all_are() {
        let without = Candidate {
            has: Some(false),
            ..PLAIN
        };
        let unknown = Candidate { has: None, ..busy(7) };
        assert_eq!(pick(&[without, unknown]), Choice::Server(1));
        assert_eq!(pick(&[without, without]), Choice::Server(0));
        // One that has it and is full is waited for.
        assert_eq!(pick(&[without, busy(8)]), Choice::Full);
        let gone = Candidate {
            usable: false,
            ..PLAIN
        };
        assert_eq!(pick(&[without, gone]), Choice::Server(0));
    }

    #[test]
    fn full_and_gone_are_told_apart() {
        assert_eq!(pick(&[busy(8), busy(9)]), Choice::Full);
        let gone = Candidate {
            usable: false,
            ..PLAIN
        };
        assert_eq!(pick(&[gone]), Choice::Nobody);
        assert_eq!(pick(&[gone, busy(8)]), Choice::Full);
        assert_eq!(pick(&[]), Choice::Nobody);
    }

    fn candidate() -> impl Strategy<Value = Candidate> {
        (
            any::<bool>(),
            any::<Option<bool>>(),
            any::<bool>(),
            0..10_usize,
            1..10_usize,
            1..5_usize,
        )
            .prop_map(|(usable, has, loaded, running, places, weight)| Candidate {
                usable,
                has,
                loaded,
                running,
                places,
                weight,
            })
    }

    proptest! {
        #[test]
        fn no_choice_breaks_a_rule(all in prop::collection::vec(candidate(), 0..6)) {
            match pick(&all) {
                Choice::Server(at) => {
                    let chosen = all[at];
                    prop_assert!(chosen.usable && chosen.running < chosen.places);
                    let better = all.iter().any(|c| c.usable && c.has != Some(false));
                    prop_assert!(chosen.has != Some(false) || !better);
                }
                Choice::Full => prop_assert!(all.iter().any(|c| c.usable && c.running >= c.places)),
                Choice::Nobody => prop_assert!(all.iter().all(|c| !c.usable)),
            }
        }
    }
}
