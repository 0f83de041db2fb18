//! Structures of the UEFI specification that firmware measures: signature lists, load options, GPT.
//!
//! Owns: reading them from an event's data, little-endian, every length checked. `None` stands for "not what it should
//! be", and the caller shows hexadecimal.

use data_encoding::HEXLOWER;

use super::node::Node;

/// Reads little-endian fields from the front of borrowed bytes.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn guid(&mut self) -> Option<String> {
        self.array().map(guid)
    }
}

/// A GUID as the UEFI specification writes it: the first three groups are stored little-endian.
pub(super) fn guid(bytes: [u8; 16]) -> String {
    let [a, b, c, d, e, f, g, h, i, j, node @ ..] = bytes;
    let groups: [&[u8]; 5] = [&[d, c, b, a], &[f, e], &[h, g], &[i, j], &node];
    groups.map(|group| HEXLOWER.encode(group)).join("-")
}

/// UTF-16 up to its first zero, or its end.
pub(super) fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|unit| match *unit {
        [low, high] => u16::from_le_bytes([low, high]),
        _ => 0,
    });
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    String::from_utf16_lossy(&units)
}

/// `EFI_SIGNATURE_LIST`s that fill the bytes (UEFI 2.10, 32.4.1): the value of PK, KEK, db and dbx.
pub(super) fn signature_lists(bytes: &[u8]) -> Option<Node> {
    let mut fields = Fields(bytes);
    let mut lists = Vec::new();
    while !fields.0.is_empty() {
        let kind = fields.guid()?;
        let (list_size, header_size, size) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let body = usize::try_from(list_size).ok()?.checked_sub(28)?;
        let mut body = Fields(fields.take(body)?);
        body.take(usize::try_from(header_size).ok()?)?;
        let each = usize::try_from(size).ok()?;
        // A signature is an owner and at least nothing.
        if each < 16 || !body.0.len().is_multiple_of(each) {
            return None;
        }
        let keys: Option<Vec<Node>> = body.0.chunks_exact(each).map(signature).collect();
        lists.push(Node::map([
            ("SignatureType", Node::text(kind)),
            ("SignatureListSize", Node::Number(list_size.into())),
            ("SignatureHeaderSize", Node::Number(header_size.into())),
            ("SignatureSize", Node::Number(size.into())),
            ("Keys", Node::List(keys?)),
        ]));
    }
    Some(Node::List(lists))
}

/// One `EFI_SIGNATURE_DATA`.
pub(super) fn signature(bytes: &[u8]) -> Option<Node> {
    let mut fields = Fields(bytes);
    Some(Node::map([
        ("SignatureOwner", Node::text(fields.guid()?)),
        ("SignatureData", Node::text(HEXLOWER.encode(fields.0))),
    ]))
}

/// `EFI_LOAD_OPTION` (UEFI 2.10, 3.1.3): the value of a `Boot####`.
pub(super) fn load_option(bytes: &[u8]) -> Option<Node> {
    let mut fields = Fields(bytes);
    let (attributes, path_len) = (fields.u32()?, fields.u16()?);
    let end = fields.0.chunks_exact(2).position(|unit| unit == [0, 0])?;
    let name = fields.take(end.checked_mul(2)?)?;
    fields.take(2)?;
    Some(Node::map([
        ("Enabled", yes_no(attributes & 1 == 1)),
        ("FilePathListLength", Node::Number(path_len.into())),
        ("Description", Node::text(utf16(name))),
        ("DevicePath", Node::text(HEXLOWER.encode(fields.0))),
    ]))
}

pub(super) fn yes_no(yes: bool) -> Node {
    Node::text(if yes { "Yes" } else { "No" })
}

/// `UEFI_GPT_DATA` (Firmware Profile, 10.2.7).
pub(super) fn gpt(bytes: &[u8]) -> Option<Node> {
    let mut fields = Fields(bytes);
    let signature = String::from_utf8(fields.take(8)?.to_vec()).ok()?;
    let (revision, header_size, crc) = (fields.u32()?, fields.u32()?, fields.u32()?);
    fields.u32()?;
    let [own, alternate, first, last] = [fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?];
    let header = Node::map([
        ("Signature", Node::text(signature)),
        ("Revision", Node::Hex(revision.into())),
        ("HeaderSize", Node::Number(header_size.into())),
        ("HeaderCRC32", Node::Hex(crc.into())),
        ("MyLBA", Node::Hex(own)),
        ("AlternateLBA", Node::Hex(alternate)),
        ("FirstUsableLBA", Node::Hex(first)),
        ("LastUsableLBA", Node::Hex(last)),
        ("DiskGUID", Node::text(fields.guid()?)),
        ("PartitionEntryLBA", Node::Hex(fields.u64()?)),
        ("NumberOfPartitionEntry", Node::Number(fields.u32()?.into())),
        ("SizeOfPartitionEntry", Node::Number(fields.u32()?.into())),
        ("PartitionEntryArrayCRC32", Node::Hex(fields.u32()?.into())),
    ]);
    let count = fields.u64()?;
    let mut partitions = Vec::new();
    for _ in 0..count {
        let (kind, own) = (fields.guid()?, fields.guid()?);
        let (start, end, attributes) = (fields.u64()?, fields.u64()?, fields.u64()?);
        partitions.push(Node::map([
            ("PartitionTypeGUID", Node::text(kind)),
            ("UniquePartitionGUID", Node::text(own)),
            ("StartingLBA", Node::Hex(start)),
            ("EndingLBA", Node::Hex(end)),
            ("Attributes", Node::Hex(attributes)),
            ("PartitionName", Node::text(utf16(fields.take(72)?))),
        ]));
    }
    fields.0.is_empty().then(|| {
        Node::map([
            ("Header", header),
            ("NumberOfPartitions", Node::Number(count)),
            ("Partitions", Node::List(partitions)),
        ])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_are_written_as_the_specification_does() {
        let stored = *b"\x61\xdf\xe4\x8b\xca\x93\xd2\x11\xaa\x0d\x00\xe0\x98\x03\x2b\x8c";
        assert_eq!(guid(stored), "8be4df61-93ca-11d2-aa0d-00e098032b8c");
    }

    #[test]
    fn lengths_that_lie_are_not_followed() {
        let mut list = vec![7; 16];
        for size in [76_u32, 0, 48] {
            list.extend(size.to_le_bytes());
        }
        list.extend([1; 48]);
        assert!(signature_lists(&list).is_some());
        // A list longer than the data, shorter than its own head, signatures without an owner or of a part.
        for (at, value) in [(16, 77_u32), (16, 27), (24, 15), (24, 0), (24, 47), (20, 49)] {
            let mut bad = list.clone();
            bad[at..at + 4].copy_from_slice(&value.to_le_bytes());
            assert_eq!(signature_lists(&bad), None, "{at} {value}");
        }
        assert_eq!(gpt(&[0; 90]), None);
        let mut many = vec![0; 92];
        many.extend(u64::MAX.to_le_bytes());
        assert_eq!(gpt(&many), None);
        assert_eq!(load_option(&[0; 6]), None);
        assert_eq!(load_option(b"\x01\0\0\0\0\0a\0b\0"), None);
    }
}
