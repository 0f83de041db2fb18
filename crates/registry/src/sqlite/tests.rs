//! What is SQLite's own: the file.

use std::{fs, os::unix::fs::PermissionsExt as _};

use tempfile::TempDir;

use super::*;
use crate::{WatchError, store::Change};

fn options() -> Options {
    Options {
        call_timeout: Duration::from_millis(300),
        alive_every: Duration::from_millis(100),
        ..Options::default()
    }
}

async fn open(dir: &TempDir) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(&dir.path().join("registry.db"), &options()).await
}

async fn next(changes: &mut Changes) -> Option<Result<Change, WatchError>> {
    let next = tokio::time::timeout(Duration::from_secs(20), changes.recv());
    next.await.expect("something happens")
}

fn put(value: &str) -> Vec<Put> {
    vec![Put {
        key: "/k".to_owned(),
        value: value.into(),
    }]
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn the_file_and_its_log_are_their_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await.unwrap();
    store.commit(Vec::new(), put("v")).await.unwrap();
    for name in ["registry.db", "registry.db-wal", "registry.db-shm"] {
        assert_eq!(mode(&dir.path().join(name)), 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_file_that_others_may_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir).await.unwrap());
    let path = dir.path().join("registry.db");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
    let refused = open(&dir).await;
    assert!(
        matches!(refused, Err(OpenError::Mode { mode: 0o660, .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn other_files_are_refused_and_left_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry.db");
    let text = "this is no database, and long enough for a header of one\n".repeat(20);
    fs::write(&path, &text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let refused = open(&dir).await;
    assert!(
        matches!(refused, Err(OpenError::NotARegistry { .. })),
        "{refused:?}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), text);

    fs::remove_file(&path).unwrap();
    let foreign = Connection::open(&path).unwrap();
    foreign.execute_batch("CREATE TABLE theirs (a)").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let refused = open(&dir).await;
    assert!(
        matches!(refused, Err(OpenError::NotARegistry { .. })),
        "{refused:?}"
    );
    let tables: i64 = foreign
        .query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0))
        .unwrap();
    assert_eq!(tables, 1);
}

#[tokio::test]
async fn a_file_that_is_not_there_is_made_refused_or_empty_as_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry.db");
    let told = |absent| Options {
        absent,
        ..Options::default()
    };
    let refused = SqliteStore::open(&path, &told(Absent::Refuse)).await;
    assert!(matches!(refused, Err(OpenError::NotThere { .. })), "{refused:?}");
    let empty = SqliteStore::open(&path, &told(Absent::Empty)).await.unwrap();
    assert!(empty.list("").await.unwrap().is_empty());
    assert!(!path.exists());
    drop(SqliteStore::open(&path, &told(Absent::Create)).await.unwrap());
    assert!(path.exists());
    drop(SqliteStore::open(&path, &told(Absent::Refuse)).await.unwrap());
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir).await.unwrap());
    let connection = Connection::open(dir.path().join("registry.db")).unwrap();
    connection.pragma_update(None, "user_version", 2).unwrap();
    let refused = open(&dir).await;
    assert!(
        matches!(
            refused,
            Err(OpenError::NewerSchema {
                found: 2,
                known: 1,
                ..
            })
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let refused = SqliteStore::open(&dir.path().join("no/registry.db"), &options()).await;
    assert!(matches!(refused, Err(OpenError::File { .. })), "{refused:?}");
}

#[tokio::test]
async fn options_for_etcd_are_refused() {
    let mut options = options();
    options.tls = Some(crate::TlsFiles {
        ca: "ca.pem".into(),
        identity: None,
    });
    let url = "sqlite:registry.db".parse().unwrap();
    let refused = crate::open(&url, &options, &"demo".parse().unwrap()).await;
    assert!(matches!(refused, Err(OpenError::NotForFiles)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_made_once_however_many_open_it() {
    let dir = tempfile::tempdir().unwrap();
    let opened = tokio::join!(open(&dir), open(&dir), open(&dir), open(&dir));
    let stores = [
        opened.0.unwrap(),
        opened.1.unwrap(),
        opened.2.unwrap(),
        opened.3.unwrap(),
    ];
    for (n, store) in (1..).zip(&stores) {
        let done = store.commit(Vec::new(), put("v")).await.unwrap();
        assert!(matches!(done, Commit::Done(revision) if revision == Revision::new(n)));
    }
    let names = fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().file_name());
    let drafts = names.filter(|n| n.to_string_lossy().ends_with(".new"));
    assert_eq!(drafts.count(), 0);
}

#[tokio::test]
async fn a_writer_that_keeps_the_file_makes_calls_time_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await.unwrap();
    let other = Connection::open(dir.path().join("registry.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = store.commit(Vec::new(), put("v")).await;
    assert!(matches!(refused, Err(Unavailable::TimedOut(_))), "{refused:?}");
    assert_eq!(store.get("/k").await.unwrap(), None);
    other.execute_batch("ROLLBACK").unwrap();
    store.commit(Vec::new(), put("v")).await.unwrap();
}

#[tokio::test]
async fn a_read_only_database_denies_writes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await.unwrap();
    store
        .call(|c| c.pragma_update(None, "query_only", true))
        .await
        .unwrap();
    let refused = store.commit(Vec::new(), put("v")).await;
    assert!(matches!(refused, Err(Unavailable::Denied(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_file_is_reported_and_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry.db");
    let store = open(&dir).await.unwrap();
    let mut changes = store.watch("/").await.unwrap();
    assert!(matches!(next(&mut changes).await, Some(Ok(Change::All(rows))) if rows.is_empty()));
    drop(store);
    for name in ["registry.db", "registry.db-wal", "registry.db-shm"] {
        let _ = fs::remove_file(dir.path().join(name));
    }
    let replaced = loop {
        match next(&mut changes).await.unwrap() {
            Ok(Change::Alive) => {}
            other => break other,
        }
    };
    assert!(matches!(replaced, Err(WatchError::Replaced)), "{replaced:?}");
    assert!(matches!(
        next(&mut changes).await,
        Some(Err(WatchError::Unavailable(_)))
    ));

    let store = SqliteStore::open(&path, &options()).await.unwrap();
    store.commit(Vec::new(), put("new")).await.unwrap();
    let rows = loop {
        if let Some(Ok(Change::All(rows))) = next(&mut changes).await
            && !rows.is_empty()
        {
            break rows;
        }
    };
    assert_eq!(rows[0].1.value, b"new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_file_is_reported_by_the_watch() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await.unwrap();
    let mut changes = store.watch("/").await.unwrap();
    assert!(matches!(next(&mut changes).await, Some(Ok(Change::All(_)))));
    store
        .call(|c| c.execute_batch("ALTER TABLE records RENAME TO gone"))
        .await
        .unwrap();
    let report = loop {
        if let Some(Err(report)) = next(&mut changes).await {
            break report;
        }
    };
    assert!(
        matches!(report, WatchError::Unavailable(Unavailable::Failed(_))),
        "{report:?}"
    );
    assert!(store.watch("/").await.is_err());
}

fn remove(dir: &TempDir) {
    for name in ["registry.db", "registry.db-wal", "registry.db-shm"] {
        let _ = fs::remove_file(dir.path().join(name));
    }
}

fn told_as_replaced<T: std::fmt::Debug>(result: Result<T, Unavailable>) {
    let Err(Unavailable::Failed(reason)) = result else {
        panic!("{result:?}")
    };
    assert!(reason.to_string().contains("deleted or replaced"), "{reason}");
}

#[tokio::test]
async fn nothing_is_called_committed_that_went_into_a_deleted_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await.unwrap();
    store.commit(Vec::new(), put("old")).await.unwrap();
    remove(&dir);
    told_as_replaced(store.commit(Vec::new(), put("v")).await);
    told_as_replaced(store.get("/k").await);
    assert!(!dir.path().join("registry.db").exists());

    // Another in its place: told once, because what was read before is not in it.
    drop(open(&dir).await.unwrap());
    told_as_replaced(store.commit(Vec::new(), put("v")).await);
    assert_eq!(store.get("/k").await.unwrap(), None);
    store.commit(Vec::new(), put("new")).await.unwrap();
    let other = open(&dir).await.unwrap();
    assert_eq!(other.get("/k").await.unwrap().unwrap().value, b"new");
}

#[tokio::test]
async fn a_file_that_goes_during_a_commit_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await.unwrap();
    let path = dir.path().join("registry.db");
    let done = store.call(move |c| {
        let done = group::write(c, &[(Vec::new(), put("v"))]);
        fs::remove_file(path).unwrap();
        done
    });
    told_as_replaced(done.await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_come_together_have_each_its_own_guards_and_revision() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&dir).await.unwrap());
    // Forty that are independent, and forty that all want to be the first to make the same key.
    let tasks: Vec<_> = (0..80)
        .map(|nth| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let key = if nth < 40 {
                    format!("/own/{nth}")
                } else {
                    "/shared".to_owned()
                };
                let puts = vec![Put {
                    key: key.clone(),
                    value: nth.to_string().into(),
                }];
                store.commit(vec![Guard::Absent(key)], puts).await.unwrap()
            })
        })
        .collect();
    let mut revisions = Vec::new();
    let mut lost = 0;
    for task in tasks {
        match task.await.unwrap() {
            Commit::Done(revision) => revisions.push(revision.get()),
            Commit::Conflict(found) => {
                assert!(found.iter().all(Option::is_some), "who lost sees what was faster");
                lost += 1;
            }
        }
    }
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=41).collect::<Vec<_>>());
    assert_eq!(lost, 39);
    assert_eq!(store.list("/own/").await.unwrap().len(), 40);
    // What was called done is there for whoever opens the file next.
    let other = open(&dir).await.unwrap();
    assert_eq!(other.list("/").await.unwrap().len(), 41);
}

#[tokio::test]
async fn a_writer_that_panicked_leaves_the_queue_open() {
    let queue = Arc::new(group::Queue::default());
    let refused = queue
        .commit(Vec::new(), put("v"), || |_: &[group::Wanted]| panic!("a bug"))
        .await;
    assert!(matches!(refused, Err(Unavailable::Failed(_))), "{refused:?}");
    // Who comes while the writer is going down is told so; then there is another one.
    let mut done = None;
    for _ in 0..1000 {
        let commit = queue.commit(Vec::new(), put("v"), || {
            |wanted: &[group::Wanted]| Ok(wanted.iter().map(|_| Commit::Done(Revision::new(7))).collect())
        });
        match commit.await {
            Ok(commit) => {
                done = Some(commit);
                break;
            }
            Err(error) => assert!(matches!(error, Unavailable::Failed(_)), "{error:?}"),
        }
    }
    assert!(matches!(done, Some(Commit::Done(revision)) if revision.get() == 7));
    let failed = Arc::new(group::Queue::default())
        .commit(Vec::new(), put("v"), || {
            |_: &[group::Wanted]| Err(Unavailable::TimedOut(Duration::from_secs(1)))
        })
        .await;
    assert!(matches!(failed, Err(Unavailable::TimedOut(_))), "{failed:?}");
}
