//! The queue against a model that is too simple to be wrong, and its promises one by one.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const ROOM: QueueLimits = QueueLimits {
    length: 1000,
    bytes: 1 << 30,
    per_device: 1000,
    per_device_bytes: 1 << 30,
};

fn any(item: &u32) -> Option<u32> {
    Some(*item)
}

#[test]
fn every_bound_is_one() {
    let limits = QueueLimits {
        length: 4,
        bytes: 100,
        per_device: 2,
        per_device_bytes: 60,
    };
    let mut queue = FairQueue::new(limits);
    queue.join(&"a", 30, 1).unwrap();
    assert_eq!(queue.join(&"a", 31, 2), Err(QueueFull::Device));
    queue.join(&"a", 30, 2).unwrap();
    assert_eq!(queue.join(&"a", 0, 3), Err(QueueFull::Device));
    assert_eq!(queue.join(&"b", 41, 3), Err(QueueFull::Overall));
    queue.join(&"b", 40, 3).unwrap();
    queue.join(&"c", 0, 4).unwrap();
    assert_eq!(queue.join(&"d", 0, 5), Err(QueueFull::Overall));
    assert_eq!((queue.len(), queue.bytes()), (4, 100));
    let mut none = FairQueue::new(QueueLimits { length: 0, ..limits });
    assert_eq!(none.join(&"a", 0, 1), Err(QueueFull::Overall));
}

#[test]
fn who_holds_every_place_comes_last() {
    let mut queue = FairQueue::new(ROOM);
    for _ in 0..4 {
        queue.begin(&"hog");
    }
    for n in 0..8 {
        queue.join(&"hog", 0, n).unwrap();
    }
    for n in 100..103 {
        queue.join(&"meek", 0, n).unwrap();
    }
    // The hog asked first and has four: the other one comes until it has as many.
    let turns: Vec<_> = (0..3).map(|_| queue.next(any).unwrap().0).collect();
    assert_eq!(turns, ["meek", "meek", "meek"]);
    assert_eq!(queue.next(any).unwrap().0, "hog");
    assert_eq!((queue.running(&"hog"), queue.running(&"meek")), (5, 3));
}

#[test]
fn equals_take_turns_whatever_they_do_between() {
    let mut queue = FairQueue::new(ROOM);
    let mut turns = Vec::new();
    queue.join(&"patient", 0, 1).unwrap();
    queue.join(&"patient", 0, 1).unwrap();
    for _ in 0..4 {
        // Comes anew each time, and is not served before who waited longer.
        queue.join(&"hasty", 0, 1).unwrap();
        let (device, _, _) = queue.next(any).unwrap();
        queue.end(&device);
        turns.push(device);
    }
    assert_eq!(turns, ["patient", "hasty", "patient", "hasty"]);
}

#[test]
fn what_no_server_can_take_holds_nobody_up() {
    let mut queue = FairQueue::new(ROOM);
    queue.join(&"a", 0, 7).unwrap();
    queue.join(&"a", 0, 2).unwrap();
    queue.join(&"b", 0, 4).unwrap();
    let even = |n: &u32| n.is_multiple_of(2).then_some(());
    assert_eq!(queue.next(even).unwrap().1, 2);
    assert_eq!(queue.next(even).unwrap().1, 4);
    assert!(queue.next(even).is_none());
    assert_eq!(queue.len(), 1);
    assert_eq!(queue.next(any).unwrap().1, 7);
}

#[test]
fn who_leaves_is_gone_once() {
    let mut queue = FairQueue::new(ROOM);
    let ticket = queue.join(&"a", 5, 1).unwrap();
    assert_eq!(queue.leave(&"b", ticket), None);
    assert_eq!(queue.leave(&"a", ticket), Some(1));
    assert_eq!(queue.leave(&"a", ticket), None);
    assert!(queue.len() == 0 && queue.bytes() == 0 && queue.lines.is_empty());
    assert!(queue.next(any).is_none());
}

#[derive(Debug, Clone)]
enum Act {
    Join(u8, usize),
    Leave(usize),
    Next(u32),
    End(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..6_u8, 0..50_usize).prop_map(|(device, bytes)| Act::Join(device, bytes)),
        1 => any_index().prop_map(Act::Leave),
        3 => (1..4_u32).prop_map(Act::Next),
        3 => any_index().prop_map(Act::End),
    ]
}

fn any_index() -> impl Strategy<Value = usize> {
    0..64_usize
}

proptest! {
    /// Nothing is lost, nothing is served twice, nothing is left over, and each choice is the fair one.
    #[test]
    fn the_queue_is_its_model(acts in prop::collection::vec(act(), 1..200)) {
        let limits = QueueLimits { length: 12, bytes: 300, per_device: 4, per_device_bytes: 120 };
        let mut queue = FairQueue::new(limits);
        // What waits, in the order of coming: device, bytes, number, ticket.
        let mut waits: Vec<(u8, usize, u32, Ticket)> = Vec::new();
        let mut runs: Vec<u8> = Vec::new();
        let mut last_turn: HashMap<u8, usize> = HashMap::new();
        for (nth, act) in acts.into_iter().enumerate() {
            match act {
                Act::Join(device, bytes) => {
                    let mine: Vec<_> = waits.iter().filter(|w| w.0 == device).collect();
                    let all: usize = waits.iter().map(|w| w.1).sum();
                    let own: usize = mine.iter().map(|w| w.1).sum();
                    let expected = if waits.len() == 12 || all + bytes > 300 {
                        Err(QueueFull::Overall)
                    } else if mine.len() == 4 || own + bytes > 120 {
                        Err(QueueFull::Device)
                    } else {
                        Ok(())
                    };
                    if mine.is_empty() && expected.is_ok() {
                        last_turn.insert(device, nth);
                    }
                    let number = u32::try_from(nth).unwrap();
                    let joined = queue.join(&device, bytes, number);
                    prop_assert_eq!(joined.map(|_| ()), expected);
                    if let Ok(ticket) = joined {
                        waits.push((device, bytes, number, ticket));
                    }
                }
                Act::Leave(at) if !waits.is_empty() => {
                    let (device, _, number, ticket) = waits.remove(at % waits.len());
                    prop_assert_eq!(queue.leave(&device, ticket), Some(number));
                    prop_assert_eq!(queue.leave(&device, ticket), None);
                }
                Act::Next(by) => {
                    let fits = |n: u32| n.is_multiple_of(by);
                    let best = waits
                        .iter()
                        .filter(|w| fits(w.2))
                        .map(|w| (runs.iter().filter(|r| **r == w.0).count(), last_turn[&w.0], w.0))
                        .min();
                    let served = queue.next(|n| fits(*n).then_some(()));
                    let Some((_, _, device)) = best else {
                        prop_assert!(served.is_none());
                        continue;
                    };
                    let (to, number, ()) = served.unwrap();
                    prop_assert_eq!(to, device);
                    // Of one device, the first that fits.
                    let first = waits.iter().position(|w| w.0 == device && fits(w.2)).unwrap();
                    prop_assert_eq!(waits.remove(first).2, number);
                    runs.push(device);
                    last_turn.insert(device, nth);
                }
                Act::End(at) if !runs.is_empty() => {
                    let device = runs.remove(at % runs.len());
                    queue.end(&device);
                }
                Act::Leave(_) | Act::End(_) => {}
            }
            prop_assert_eq!(queue.len(), waits.len());
            prop_assert_eq!(queue.bytes(), waits.iter().map(|w| w.1).sum::<usize>());
            prop_assert_eq!(queue.lines.len(), waits.iter().map(|w| w.0).collect::<BTreeSet<_>>().len());
            prop_assert_eq!(queue.running.len(), runs.iter().collect::<BTreeSet<_>>().len());
            for device in 0..6 {
                prop_assert_eq!(queue.running(&device), runs.iter().filter(|r| **r == device).count());
            }
        }
    }

    /// However many a device asks for, one that has nothing running waits for at most one turn of each other device.
    #[test]
    fn nobody_starves(places in 1..6_usize, devices in 1..8_u32, greed in 1..30_usize, ends in prop::collection::vec(0..64_usize, 60)) {
        let mut queue = FairQueue::new(ROOM);
        let mut runs: Vec<u32> = Vec::new();
        for device in 0..devices {
            for _ in 0..greed {
                queue.join(&device, 0, device).unwrap();
            }
        }
        for _ in 0..places {
            runs.extend(queue.next(any).map(|(device, _, _)| device));
        }
        queue.join(&99, 0, 99).unwrap();
        let mut turns = 0;
        for at in ends {
            if runs.is_empty() {
                break;
            }
            let ended = runs.remove(at % runs.len());
            queue.end(&ended);
            // Whoever is served asks for more at once.
            queue.join(&ended, 0, ended).unwrap();
            let (device, _, _) = queue.next(any).unwrap();
            turns += 1;
            if device == 99 {
                turns = 0;
                break;
            }
            runs.push(device);
        }
        prop_assert!(turns <= devices, "99 still waits after {turns} turns of {devices} devices");
    }
}
