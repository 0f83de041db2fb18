//! Adiantum with XChaCha12 and AES-256: length-preserving encryption of a sector without AES hardware
//! (Crowley and Biggers, "Adiantum: length-preserving encryption for entry-level processors", 2018).
//!
//! Owns: the construction (section 2 of the paper, figure 2) as Linux has it (`crypto/adiantum.c`), and NH in portable
//! Rust; the stream cipher, the block cipher and Poly1305 are RustCrypto's. dm-crypt's name for it is
//! `xchacha12,aes-adiantum-plain64`. Tweaks are 32 bytes, as the kernel wants them.
//! No table of this module is indexed by a secret and nothing branches on one. Limits: the compiler decides how well NH
//! is vectorised; AES runs once in a sector.

use aes::{
    Aes256,
    cipher::{BlockDecrypt as _, BlockEncrypt as _, KeyInit as _},
};
use chacha20::{KeyIvInit as _, XChaCha12, cipher::StreamCipher as _};
use poly1305::{
    Poly1305,
    universal_hash::{KeyInit as _, UniversalHash as _},
};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a key.
pub(crate) const KEY_LEN: usize = 32;
/// Bytes of a tweak.
pub(crate) const TWEAK_LEN: usize = 32;
/// Bytes of the block that goes through AES: the last of a sector.
const BLOCK: usize = 16;
/// Bytes of a message that NH takes at once (appendix A of the paper).
const NH_MESSAGE: usize = 1024;
/// Words of NH's key: those of a message, and four more for each of the three later passes.
const NH_WORDS: usize = NH_MESSAGE / 4 + 3 * 4;
/// Bytes that NH makes of a message: four passes of 64 bits.
const NH_HASH: usize = 32;

/// A keyed Adiantum.
pub(crate) struct Adiantum {
    stream_key: Zeroizing<[u8; KEY_LEN]>,
    block: Aes256,
    header_hash: Poly1305,
    message_hash: Poly1305,
    nh_key: Zeroizing<[u32; NH_WORDS]>,
}

impl Adiantum {
    /// Derives the keys of AES, both Poly1305 and NH from the stream under the nonce 1 (section 2.1).
    pub(crate) fn new(key: &[u8; KEY_LEN]) -> Self {
        let mut derived = Zeroizing::new(Derived::default());
        let mut nonce = [0; 24];
        nonce[0] = 1;
        let mut stream = XChaCha12::new(key.into(), &nonce.into());
        stream.apply_keystream(&mut derived.block);
        stream.apply_keystream(&mut derived.header);
        stream.apply_keystream(&mut derived.message);
        let mut nh_key = Zeroizing::new([0; NH_WORDS]);
        for word in nh_key.iter_mut() {
            let mut bytes = [0; 4];
            stream.apply_keystream(&mut bytes);
            *word = u32::from_le_bytes(bytes);
        }
        Self {
            stream_key: Zeroizing::new(*key),
            block: Aes256::new(&derived.block.into()),
            header_hash: poly1305(&derived.header),
            message_hash: poly1305(&derived.message),
            nh_key,
        }
    }

    /// Encrypts `data` in place. Gives `false`, and does nothing, when it has fewer than 16 bytes.
    #[must_use]
    pub(crate) fn encrypt(&self, tweak: &[u8; TWEAK_LEN], data: &mut [u8]) -> bool {
        let Some((left, right)) = data.split_last_chunk_mut::<BLOCK>() else {
            return false;
        };
        let mut middle = u128::from_le_bytes(*right)
            .wrapping_add(self.hash(tweak, left))
            .to_le_bytes();
        self.block.encrypt_block((&mut middle).into());
        self.stream(&middle, left);
        *right = u128::from_le_bytes(middle)
            .wrapping_sub(self.hash(tweak, left))
            .to_le_bytes();
        true
    }

    /// Decrypts `data` in place. Gives `false`, and does nothing, when it has fewer than 16 bytes.
    #[must_use]
    pub(crate) fn decrypt(&self, tweak: &[u8; TWEAK_LEN], data: &mut [u8]) -> bool {
        let Some((left, right)) = data.split_last_chunk_mut::<BLOCK>() else {
            return false;
        };
        let mut middle = u128::from_le_bytes(*right)
            .wrapping_add(self.hash(tweak, left))
            .to_le_bytes();
        self.stream(&middle, left);
        self.block.decrypt_block((&mut middle).into());
        *right = u128::from_le_bytes(middle)
            .wrapping_sub(self.hash(tweak, left))
            .to_le_bytes();
        true
    }

    /// XORs the stream of the nonce `middle || 1 || 0..` into `left`.
    fn stream(&self, middle: &[u8; BLOCK], left: &mut [u8]) {
        let mut nonce = [0; 24];
        for (to, from) in nonce.iter_mut().zip(middle.iter().chain(&[1])) {
            *to = *from;
        }
        XChaCha12::new((&*self.stream_key).into(), &nonce.into()).apply_keystream(left);
    }

    /// `H(T, L)`: Poly1305 of length and tweak plus Poly1305 of NH of the message, modulo 2^128 (section 2.2).
    fn hash(&self, tweak: &[u8; TWEAK_LEN], left: &[u8]) -> u128 {
        let bits = u128::try_from(left.len()).unwrap_or(u128::MAX).wrapping_mul(8);
        let mut header = self.header_hash.clone();
        header.update(&[bits.to_le_bytes().into()]);
        header.update_padded(tweak);
        let mut message = self.message_hash.clone();
        for part in left.chunks(NH_MESSAGE) {
            message.update_padded(&nh(&self.nh_key, part));
        }
        let sum = |hash: Poly1305| u128::from_le_bytes(hash.finalize().into());
        sum(header).wrapping_add(sum(message))
    }
}

/// The parts of the derived key, in their order.
#[derive(Default)]
struct Derived {
    block: [u8; 32],
    header: [u8; 16],
    message: [u8; 16],
}

impl Zeroize for Derived {
    fn zeroize(&mut self) {
        self.block.zeroize();
        self.header.zeroize();
        self.message.zeroize();
    }
}

/// Poly1305 as a universal hash: its second key, which is added at the end, is zero.
fn poly1305(key: &[u8; 16]) -> Poly1305 {
    let mut whole = Zeroizing::new([0; 32]);
    for (to, from) in whole.iter_mut().zip(key) {
        *to = *from;
    }
    Poly1305::new((&*whole).into())
}

/// NH with four passes (appendix A): for each unit of four words, `(m0+k0)(m2+k2) + (m1+k1)(m3+k3)`; each pass has the
/// key four words further. A last unit that is cut is filled with zeros.
fn nh(key: &[u32; NH_WORDS], message: &[u8]) -> [u8; NH_HASH] {
    let mut sums = [0_u64; 4];
    let (units, rest) = message.as_chunks::<BLOCK>();
    let mut last = [0; BLOCK];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    let cut = (!rest.is_empty()).then_some(&last);
    for (unit, window) in units.iter().chain(cut).zip(key.windows(16).step_by(4)) {
        let Some(k) = window.first_chunk::<16>() else {
            break;
        };
        let [m0, m1, m2, m3] = words(unit);
        let product = |a: u32, ka: u32, b: u32, kb: u32| {
            u64::from(a.wrapping_add(ka)).wrapping_mul(u64::from(b.wrapping_add(kb)))
        };
        let add = |sum: &mut u64, [k0, k1, k2, k3]: [u32; 4]| {
            *sum = sum
                .wrapping_add(product(m0, k0, m2, k2))
                .wrapping_add(product(m1, k1, m3, k3));
        };
        let [s0, s1, s2, s3] = &mut sums;
        add(s0, [k[0], k[1], k[2], k[3]]);
        add(s1, [k[4], k[5], k[6], k[7]]);
        add(s2, [k[8], k[9], k[10], k[11]]);
        add(s3, [k[12], k[13], k[14], k[15]]);
    }
    let mut hash = [0; NH_HASH];
    for (to, sum) in hash.as_chunks_mut::<8>().0.iter_mut().zip(sums) {
        *to = sum.to_le_bytes();
    }
    hash
}

fn words(unit: &[u8; BLOCK]) -> [u32; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(unit.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        data_encoding::HEXLOWER
            .decode(hex.as_bytes())
            .unwrap()
            .try_into()
            .unwrap()
    }

    #[test]
    fn matches_the_authors_vectors() {
        let mut lengths = Vec::new();
        for line in include_str!("../tests/data/adiantum-xchacha12-aes256.txt").lines() {
            if line.starts_with('#') {
                continue;
            }
            let [key, tweak, plain, cipher] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
            let adiantum = Adiantum::new(&bytes(key));
            let (plain, cipher) = (
                data_encoding::HEXLOWER.decode(plain.as_bytes()).unwrap(),
                data_encoding::HEXLOWER.decode(cipher.as_bytes()).unwrap(),
            );
            let mut data = plain.clone();
            assert!(adiantum.encrypt(&bytes(tweak), &mut data));
            assert!(data == cipher, "{} bytes", plain.len());
            assert!(adiantum.decrypt(&bytes(tweak), &mut data));
            assert!(data == plain);
            lengths.push(plain.len());
        }
        lengths.dedup();
        assert_eq!(lengths, [16, 31, 128, 512, 1536, 4096]);
    }

    #[test]
    fn less_than_a_block_is_refused_and_left_alone() {
        let mut short = [7; 15];
        assert!(!Adiantum::new(&[1; 32]).encrypt(&[0; 32], &mut short));
        assert!(!Adiantum::new(&[1; 32]).decrypt(&[0; 32], &mut short));
        assert_eq!(short, [7; 15]);
    }

    #[test]
    fn every_bit_of_tweak_and_message_changes_everything() {
        let adiantum = Adiantum::new(&[3; 32]);
        let sealed = |tweak: &[u8; 32], first: u8| {
            let mut data = [0; 512];
            data[0] = first;
            assert!(adiantum.encrypt(tweak, &mut data));
            data
        };
        let base = sealed(&[0; 32], 0);
        let mut tweak = [0; 32];
        tweak[7] = 1;
        for other in [sealed(&tweak, 0), sealed(&[0; 32], 1)] {
            let same = base.iter().zip(other).filter(|(a, b)| *a == b).count();
            assert!(same < 16, "{same} of 512 bytes are the same");
        }
    }
}
