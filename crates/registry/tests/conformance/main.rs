//! One suite, two backends: what a registry promises, it promises on SQLite and on a real etcd.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

#[path = "../common/mod.rs"]
mod common;
mod reading;
mod watching;
mod writing;

macro_rules! on_both {
    ($($suite:ident :: $name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                crate::$suite::$name(&crate::common::Bench::sqlite().await).await;
            })+
        }

        mod etcd {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                crate::$suite::$name(&crate::common::Bench::etcd().await).await;
            })+
        }
    };
}

on_both! {
    writing::of_many_enrolments_of_one_id_one_wins,
    writing::of_many_ids_with_one_endorsement_key_one_wins,
    writing::of_many_ids_with_one_psk_one_wins,
    writing::a_previous_psk_is_taken_as_well,
    writing::a_refused_enrolment_leaves_nothing,
    writing::a_tombstone_keeps_its_id_key_and_psk,
    writing::an_edit_needs_the_revision_that_was_read,
    writing::of_many_edits_of_one_revision_one_wins,
    writing::an_edit_raises_the_generation,
    writing::what_a_device_is_never_changes,
    writing::a_new_psk_must_be_new_to_the_fleet,
    writing::a_client_certificate_is_one_devices_for_good,
    writing::a_policy_is_replaced_by_a_later_revision_only,
    writing::what_was_seen_is_swapped,
    writing::what_was_spent_is_swapped,
    writing::nothing_is_written_that_no_reader_takes,
    reading::records_come_back_as_they_were,
    reading::what_is_not_understood_is_said_and_never_dropped,
    reading::fleets_do_not_see_each_other,
    watching::the_first_update_is_everything,
    watching::a_suspended_device_is_refused_within_a_second,
    watching::a_new_device_is_admitted,
    watching::a_rotated_psk_ends_at_its_time,
    watching::a_replaced_client_certificate_ends_at_once,
    watching::entries_that_did_not_change_are_the_same,
    watching::what_was_seen_is_told_alone,
    watching::what_was_spent_is_told_alone,
    watching::a_quiet_watch_gives_signs_of_life,
    watching::each_broken_record_refuses_its_device_only,
    watching::old_records_that_are_put_back_are_refused,
    watching::removed_keys_are_noticed,
}
