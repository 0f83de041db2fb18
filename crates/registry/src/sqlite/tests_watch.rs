//! What a watch is told where its own process writes, others write, or both do.

use std::collections::BTreeMap;

use tempfile::TempDir;

use super::*;
use crate::store::Change;

async fn open(dir: &TempDir) -> SqliteStore {
    SqliteStore::open(&dir.path().join("registry.db"), &Options::default())
        .await
        .unwrap()
}

fn put(key: &str, value: &str) -> Vec<Put> {
    vec![Put {
        key: key.to_owned(),
        value: value.into(),
    }]
}

/// Reads changes until they come to `wanted`: what is under which key.
async fn told(changes: &mut Changes, found: &mut BTreeMap<String, Vec<u8>>, wanted: &[(&str, &str)]) {
    let wanted: BTreeMap<String, Vec<u8>> = wanted
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).into()))
        .collect();
    while *found != wanted {
        let next = tokio::time::timeout(Duration::from_secs(20), changes.recv());
        match next.await.expect("something happens").unwrap().unwrap() {
            Change::All(rows) => *found = rows.into_iter().map(|(key, s)| (key, s.value)).collect(),
            Change::Some(rows) => {
                for (key, stored) in rows {
                    match stored {
                        Some(stored) => found.insert(key, stored.value),
                        None => found.remove(&key),
                    };
                }
            }
            Change::Alive => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn own_commits_others_and_edits_by_hand_are_all_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let other = open(&dir).await;
    let hand = Connection::open(dir.path().join("registry.db")).unwrap();
    store.commit(Vec::new(), put("/f/first", "1")).await.unwrap();
    let mut changes = store.watch("/f/").await.unwrap();
    let mut found = BTreeMap::new();
    told(&mut changes, &mut found, &[("/f/first", "1")]).await;
    // Our own, told as the last one of each key has it, and without those of another prefix.
    for value in ["a", "b"] {
        store.commit(Vec::new(), put("/f/own", value)).await.unwrap();
        store.commit(Vec::new(), put("/g/own", value)).await.unwrap();
    }
    told(&mut changes, &mut found, &[("/f/first", "1"), ("/f/own", "b")]).await;
    // An edit that raises no revision, and our own over it at once.
    hand.execute("UPDATE records SET value = x'78' WHERE key = '/f/first'", [])
        .unwrap();
    store.commit(Vec::new(), put("/f/own", "c")).await.unwrap();
    told(&mut changes, &mut found, &[("/f/first", "x"), ("/f/own", "c")]).await;
    // Our own, and somebody else's over it.
    store.commit(Vec::new(), put("/f/own", "d")).await.unwrap();
    other.commit(Vec::new(), put("/f/own", "e")).await.unwrap();
    told(&mut changes, &mut found, &[("/f/first", "x"), ("/f/own", "e")]).await;
    hand.execute("DELETE FROM records WHERE key = '/f/own'", [])
        .unwrap();
    told(&mut changes, &mut found, &[("/f/first", "x")]).await;
}

#[tokio::test]
async fn only_where_nobody_else_wrote_are_our_own_rows_all_the_news() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let file = file::id(&dir.path().join("registry.db")).unwrap();
    let elsewhere = file::id(dir.path()).unwrap();
    let hand = Connection::open(dir.path().join("registry.db")).unwrap();
    let news = |of, before| store.opened.lock().unwrap().news(of, before).unwrap();
    let (heard, rows) = news(file, None);
    assert_eq!(rows, None);
    store.commit(Vec::new(), put("/f/a", "1")).await.unwrap();
    let (heard, rows) = news(file, Some(heard));
    assert_eq!(rows.unwrap().len(), 1);
    let (heard, rows) = news(file, Some(heard));
    assert_eq!(rows.unwrap().len(), 0);
    // Another connection's, before ours or after.
    hand.execute("UPDATE records SET value = x'78'", []).unwrap();
    store.commit(Vec::new(), put("/f/b", "1")).await.unwrap();
    let (heard, rows) = news(file, Some(heard));
    assert_eq!(rows, None);
    store.commit(Vec::new(), put("/f/c", "1")).await.unwrap();
    hand.execute("UPDATE records SET value = x'79'", []).unwrap();
    let (heard, rows) = news(file, Some(heard));
    assert_eq!(rows, None);
    // A call that is no commit may have written anything.
    store
        .call(|c| c.execute("UPDATE records SET value = x'7a'", []))
        .await
        .unwrap();
    let (heard, rows) = news(file, Some(heard));
    assert_eq!(rows, None);
    // A commit that failed may have been done.
    let (heard, _) = news(file, Some(heard));
    hand.execute_batch("ALTER TABLE records RENAME TO away").unwrap();
    let failed = store.commit(Vec::new(), put("/f/d", "1")).await;
    assert!(matches!(failed, Err(Unavailable::Failed(_))), "{failed:?}");
    hand.execute_batch("ALTER TABLE away RENAME TO records").unwrap();
    let (heard, rows) = news(file, Some(heard));
    assert_eq!(rows, None);
    // Another file, and another connection to this one.
    store.commit(Vec::new(), put("/f/e", "1")).await.unwrap();
    let (heard, rows) = news(elsewhere, Some(heard));
    assert_eq!(rows, None);
    let other = open(&dir).await;
    let (_, rows) = other.opened.lock().unwrap().news(file, Some(heard)).unwrap();
    assert_eq!(rows, None);
}

#[tokio::test]
async fn a_commit_over_what_was_read_needs_that_revision() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let swap = |expected, value| {
        let guard = Guard::At("/k".to_owned(), Revision::new(expected));
        store.commit(vec![guard], put("/k", value))
    };
    let missing = swap(1, "v").await.unwrap();
    assert!(matches!(missing, Commit::Conflict(found) if found == [None]));
    store.commit(Vec::new(), put("/k", "v")).await.unwrap();
    let done = swap(1, "w").await.unwrap();
    assert!(matches!(done, Commit::Done(revision) if revision.get() == 2));
    let late = swap(1, "x").await.unwrap();
    let Commit::Conflict(found) = late else {
        panic!("{late:?}")
    };
    assert_eq!(found[0].as_ref().unwrap().value, b"w");
    let stored = store.get("/k").await.unwrap().unwrap();
    assert_eq!((stored.value.as_slice(), stored.revision.get()), (&b"w"[..], 2));
}

#[tokio::test]
async fn commits_that_are_about_to_come_are_in_one_transaction() {
    let queue = Arc::new(group::Queue::default());
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let commits = (0..20).map(|nth| {
        let (queue, sizes) = (Arc::clone(&queue), Arc::clone(&sizes));
        tokio::spawn(async move {
            queue
                .commit(Vec::new(), put(&format!("/{nth}"), "v"), move || {
                    move |wanted: &[group::Wanted]| {
                        sizes.lock().unwrap().push(wanted.len());
                        Ok(wanted.iter().map(|_| Commit::Done(Revision::new(1))).collect())
                    }
                })
                .await
        })
    });
    for commit in commits.collect::<Vec<_>>() {
        commit.await.unwrap().unwrap();
    }
    assert_eq!(*sizes.lock().unwrap(), [20]);
}
