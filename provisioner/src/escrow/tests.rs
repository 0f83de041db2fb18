use std::{
    path::Path,
    process::{Command, Stdio},
};

use domain::SealedSecret;

use super::*;

const VOLUME: [u8; 16] = [
    0x1b, 0x4e, 0x28, 0xba, 0x2f, 0xa1, 0x41, 0xd2, 0x88, 0x3f, 0x00, 0x16, 0xd3, 0xcc, 0xa4, 0x27,
];
const KEY: &str = "cccjbcbj-dcdjecej-fcfjgcgj-hchjicij-jcjjkckj-lcljncnj-rcrjtctj-ucujvcvj";
const TEXT: &str = "signalbox recovery key 1\ndevice: edge-1\nvolume: 1b4e28ba-2fa1-41d2-883f-0016d3cca427\n\
                    key: cccjbcbj-dcdjecej-fcfjgcgj-hchjicij-jcjjkckj-lcljncnj-rcrjtctj-ucujvcvj\n";

fn subject() -> Subject {
    Subject {
        device: "edge-1".parse().unwrap(),
        volume: VOLUME,
    }
}

fn key() -> RecoveryKey {
    RecoveryKey::parse(KEY.as_bytes()).unwrap()
}

/// A pair of keys, made by stock age-keygen: the identity file and the public half.
struct Keeper {
    dir: tempfile::TempDir,
    public: String,
}

impl Keeper {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.txt");
        age("age-keygen", &["-o", path.to_str().unwrap()], b"").unwrap();
        let public = age("age-keygen", &["-y", path.to_str().unwrap()], b"").unwrap();
        Self {
            dir,
            public: String::from_utf8(public).unwrap().trim().to_owned(),
        }
    }

    fn path(&self) -> String {
        self.dir.path().join("key.txt").to_str().unwrap().to_owned()
    }

    fn identities(&self) -> Identities {
        Identities::parse(&std::fs::read(self.path()).unwrap()).unwrap()
    }

    fn recipients(&self) -> Recipients {
        Recipients::parse(&[&self.public]).unwrap()
    }

    /// Any text, in an escrow file by stock age.
    fn encrypt(&self, text: &[u8]) -> Vec<u8> {
        age("age", &["-a", "-r", &self.public], text).unwrap()
    }
}

fn age(program: &str, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}, of the Debian package age: {e}"));
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn shown(key: &RecoveryKey) -> String {
    key.expose(|text| String::from_utf8(text.to_vec()).unwrap())
}

#[test]
fn stock_age_opens_ours_for_every_recipient() {
    let keepers = [Keeper::new(), Keeper::new(), Keeper::new()];
    let (two, _stranger) = keepers.split_at(2);
    let publics: Vec<&str> = two.iter().map(|keeper| keeper.public.as_str()).collect();
    let file = seal(&Recipients::parse(&publics).unwrap(), &subject(), &key()).unwrap();
    assert!(file.starts_with("-----BEGIN AGE ENCRYPTED FILE-----\n"));
    for keeper in two {
        let text = age("age", &["-d", "-i", &keeper.path()], file.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), TEXT);
    }
    assert!(age("age", &["-d", "-i", &keepers[2].path()], file.as_bytes()).is_err());
}

#[test]
fn ours_opens_what_stock_age_made_armored_or_not() {
    let keeper = Keeper::new();
    let armored = keeper.encrypt(TEXT.as_bytes());
    let binary = age("age", &["-r", &keeper.public], TEXT.as_bytes()).unwrap();
    for file in [armored, binary] {
        let escrowed = open(&file, &keeper.identities()).unwrap();
        assert_eq!(*escrowed.of(), subject());
        let key = escrowed.for_volume(VOLUME, Some(&subject().device)).unwrap();
        assert_eq!(shown(&key), KEY);
    }
}

#[test]
fn the_file_of_another_volume_or_device_is_told() {
    let keeper = Keeper::new();
    let file = seal(&keeper.recipients(), &subject(), &key()).unwrap();
    let escrowed = || open(file.as_bytes(), &keeper.identities()).unwrap();
    let refused = escrowed().for_volume([0; 16], None).err().unwrap();
    assert_eq!(
        refused.to_string(),
        "the escrow file is of the volume 1b4e28ba-2fa1-41d2-883f-0016d3cca427, not of 00000000-0000-0000-0000-000000000000"
    );
    let other = "edge-2".parse().unwrap();
    let refused = escrowed().for_volume(VOLUME, Some(&other)).err().unwrap();
    assert_eq!(
        refused.to_string(),
        "the escrow file is of the device edge-1, not of edge-2"
    );
    assert!(escrowed().for_volume(VOLUME, None).is_ok());
}

#[test]
fn a_stranger_and_a_passphrase_open_nothing() {
    let (keeper, stranger) = (Keeper::new(), Keeper::new());
    let file = seal(&keeper.recipients(), &subject(), &key()).unwrap();
    assert!(matches!(
        open(file.as_bytes(), &stranger.identities()),
        Err(EscrowError::NotOurs)
    ));
}

#[test]
fn a_file_that_was_touched_or_cut_is_broken() {
    let keeper = Keeper::new();
    let identities = keeper.identities();
    let file = age("age", &["-r", &keeper.public], TEXT.as_bytes()).unwrap();
    for at in 0..file.len() {
        let mut touched = file.clone();
        touched[at] ^= 1;
        assert!(open(&touched, &identities).is_err(), "byte {at}");
        assert!(open(&file[..at], &identities).is_err(), "{at} bytes");
    }
    assert!(matches!(open(b"", &identities), Err(EscrowError::Broken(_))));
    assert!(matches!(
        open(&vec![b'x'; MAX_FILE + 1], &identities),
        Err(EscrowError::TooLong)
    ));
}

#[test]
fn another_text_inside_is_no_key() {
    let keeper = Keeper::new();
    let identities = keeper.identities();
    for text in [
        String::new(),
        TEXT.trim_end().to_owned(),
        format!("{TEXT}\n"),
        format!("{TEXT}{TEXT}"),
        TEXT.replace("key 1", "key 2"),
        TEXT.replace("edge-1", "Edge 1"),
        TEXT.replace("1b4e28ba-", "1b4e28ba"),
        TEXT.replace("1b4e28ba", "1B4E28BA"),
        TEXT.replace("cccjbcbj-", "cccjbcbj"),
        TEXT.replace("device: edge-1\n", ""),
        TEXT.replace('\n', "\r\n"),
        "x".repeat(MAX_TEXT),
        "x".repeat(100_000),
    ] {
        let file = keeper.encrypt(text.as_bytes());
        assert!(
            matches!(
                open(&file, &identities),
                Err(EscrowError::NotAKey | EscrowError::TooLong)
            ),
            "{text:?}"
        );
    }
}

#[test]
fn the_longest_device_id_fits() {
    let keeper = Keeper::new();
    let of = Subject {
        device: "a".repeat(63).parse().unwrap(),
        volume: [0xff; 16],
    };
    let file = seal(&keeper.recipients(), &of, &key()).unwrap();
    assert_eq!(*open(file.as_bytes(), &keeper.identities()).unwrap().of(), of);
}

#[test]
fn recipients_are_age_keys_and_nothing_else() {
    let keeper = Keeper::new();
    let public = keeper.public.as_str();
    let secret = std::fs::read_to_string(keeper.path()).unwrap();
    let secret = secret.lines().last().unwrap();
    let parse = |texts: &[&str]| Recipients::parse(texts).unwrap_err();
    assert_eq!(parse(&[]), RecipientError::Nobody);
    assert_eq!(parse(&[public; 33]), RecipientError::TooMany(33));
    assert_eq!(parse(&[public, public]), RecipientError::Twice(2));
    assert_eq!(parse(&[public, &public.to_uppercase()]), RecipientError::Twice(2));
    let refused = parse(&[public, secret]);
    assert_eq!(refused, RecipientError::SecretKey(2));
    assert!(!refused.to_string().contains(secret));
    for ssh in [
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA",
        "ssh-rsa AAAA",
        "ecdsa-sha2-nistp256 AAAA",
    ] {
        assert_eq!(parse(&[ssh]), RecipientError::Ssh(1));
    }
    let mut misread = public.to_owned();
    misread.replace_range(10..11, if misread.as_bytes()[10] == b'q' { "p" } else { "q" });
    for bad in [
        "",
        "age1",
        "edge-1",
        &misread,
        "age1yubikey1qwertz",
        &format!(" {public}"),
        &"a".repeat(9000),
    ] {
        assert_eq!(parse(&[bad]), RecipientError::Invalid(1), "{bad}");
    }
}

#[test]
fn a_key_of_low_order_is_refused_before_age_panics_over_it() {
    // u = 0, 1, p - 1 and one of order 8 (RFC 7748, 6.1 and the list of curve25519's author), written as recipients.
    for low in [
        [0; 32],
        {
            let mut one = [0; 32];
            one[0] = 1;
            one
        },
        {
            let mut below = [0xff; 32];
            (below[0], below[31]) = (0xec, 0x7f);
            below
        },
        [
            0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
            0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
        ],
    ] {
        let text = bech32("age", &low);
        assert!(
            text.parse::<x25519::Recipient>().is_ok(),
            "age itself takes {text}"
        );
        assert_eq!(
            Recipients::parse(&[text]).unwrap_err(),
            RecipientError::LowOrder(1)
        );
    }
}

#[test]
fn identity_files_are_those_of_age_keygen() {
    let keeper = Keeper::new();
    let text = std::fs::read_to_string(keeper.path()).unwrap();
    assert!(text.starts_with("# created: "));
    assert!(Identities::parse(text.replace('\n', "\r\n").as_bytes()).is_ok());
    let parse = |file: &[u8]| Identities::parse(file).err().unwrap();
    assert_eq!(parse(b"# nothing\n\n"), IdentityError::Nobody);
    assert_eq!(
        parse(b"age-encryption.org/v1\n-> scrypt"),
        IdentityError::Encrypted
    );
    assert_eq!(
        parse(b"-----BEGIN AGE ENCRYPTED FILE-----\n"),
        IdentityError::Encrypted
    );
    assert_eq!(parse(b"# a\nAGE-PLUGIN-YUBIKEY-1QQ\n"), IdentityError::Line(2));
    assert_eq!(
        parse(b"-----BEGIN OPENSSH PRIVATE KEY-----\n"),
        IdentityError::Line(1)
    );
    assert_eq!(parse(keeper.public.as_bytes()), IdentityError::Line(1));
    assert_eq!(parse(&[0xff, b'\n']), IdentityError::Line(1));
    assert_eq!(parse(&vec![b'#'; MAX_FILE + 1]), IdentityError::TooLong);
}

#[test]
fn the_key_is_nowhere_in_the_file() {
    let keeper = Keeper::new();
    let file = seal(&keeper.recipients(), &subject(), &key()).unwrap();
    let binary = age("age", &["-r", &keeper.public], b"").unwrap();
    assert!(file.len() > binary.len());
    for part in KEY.split('-').chain(["edge-1", "1b4e28ba"]) {
        assert!(!file.contains(part), "{part}");
    }
}

#[test]
fn what_is_in_escrow_opens_the_volume() {
    let keeper = Keeper::new();
    let entropy = SealedSecret::copy_from(&[0x5a; 32]).unwrap();
    let key = RecoveryKey::new(entropy);
    let file = seal(&keeper.recipients(), &subject(), &key).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let at = crate::adapters::escrows::beside(&dir.path().join("x.luks"));
    crate::adapters::escrows::write(&at, &file, false).unwrap();
    // As a person without this program would: age and a text tool.
    let read = age("age", &["-d", "-i", &keeper.path(), path(&at)], b"").unwrap();
    let read = String::from_utf8(read).unwrap();
    let line = read.lines().find_map(|line| line.strip_prefix("key: ")).unwrap();
    assert_eq!(line, shown(&key));
    let again = crate::adapters::escrows::read(&at).unwrap();
    let again = open(&again, &keeper.identities()).unwrap();
    assert_eq!(shown(&again.for_volume(VOLUME, None).unwrap()), line);
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Bech32 (BIP 173), to write recipients that `age-keygen` never makes.
fn bech32(prefix: &str, bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    let mut groups = Vec::new();
    let (mut bits, mut have) = (0_u32, 0);
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        have += 8;
        while have >= 5 {
            have -= 5;
            groups.push(bits >> have & 31);
        }
        bits &= (1 << have) - 1;
    }
    if have > 0 {
        groups.push(bits << (5 - have) & 31);
    }
    let mut all: Vec<u32> = prefix.bytes().map(|b| u32::from(b) >> 5).collect();
    all.push(0);
    all.extend(prefix.bytes().map(|b| u32::from(b) & 31));
    all.extend(&groups);
    all.extend([0; 6]);
    let checksum = all.iter().fold(1_u32, |sum, value| {
        let top = sum >> 25;
        let sum = (sum & 0x01ff_ffff) << 5 ^ value;
        [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3]
            .iter()
            .enumerate()
            .fold(
                sum,
                |sum, (bit, generator)| if top >> bit & 1 == 1 { sum ^ generator } else { sum },
            )
    }) ^ 1;
    groups.extend((0..6).map(|place| checksum >> (5 * (5 - place)) & 31));
    let letters: String = groups
        .iter()
        .map(|group| char::from(LETTERS[*group as usize]))
        .collect();
    format!("{prefix}1{letters}")
}
