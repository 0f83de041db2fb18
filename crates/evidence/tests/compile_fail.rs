//! The order of the checks is in the types: nothing outside the crate skips a step or makes one up.

#![allow(missing_docs, reason = "test code")]

#[test]
fn no_step_can_be_skipped_or_made_up() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/compile_fail/the_whole_chain.rs");
    cases.compile_fail("tests/compile_fail/skips_*.rs");
    cases.compile_fail("tests/compile_fail/makes_*.rs");
}
