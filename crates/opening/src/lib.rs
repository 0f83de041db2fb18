//! What opens a volume of a TPM, for every program that opens one: from its tokens to what the TPM must be shown.
//!
//! Owns: a token's conditions in the words of the TPM ([`conditions`], [`object`], [`policy_key`]), trying one token after the
//! other ([`release`]), where the file of signatures is found ([`signatures`]), and asking a person without showing what is
//! typed ([`terminal`]).
//! An attacker may have written the tokens and the file of signatures: he chooses which question is asked, and gets no answer.
//! Limits: a PIN is asked for before it is known whether the PCRs fit.

mod release;
pub mod signatures;
pub mod terminal;
mod token;

pub use release::{Answers, NotReleased, Released, release};
pub use token::{conditions, object, policy_key};
