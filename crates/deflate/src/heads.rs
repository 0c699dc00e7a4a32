//! Follows the heads of the frames that go by below a codec, and hides from it that messages are compressed.

use std::collections::VecDeque;

/// What a message is, which the codec above cannot tell: a compressed one it takes for a binary one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As it came.
    Plain,
    /// A text, compressed.
    CompressedText,
    /// Bytes, compressed.
    CompressedBinary,
}

/// Follows the heads of the frames that a peer sends.
///
/// Whatever is read goes through [`feed`](Self::feed) before the codec has it. Where compression is agreed, the first
/// frame of a compressed message loses its mark (RSV1), and is made one of a binary message, since a codec would look
/// for UTF-8 in a text; and for each message that the codec hands out [`next_message`](Self::next_message) says what it
/// was. A mark where none may be (RFC 7692, 6.1: on a control frame, or on any but the first frame of a message) stays,
/// and so does any mark where compression is not agreed: both are for the codec to refuse.
#[derive(Debug, Default)]
pub struct Heads {
    /// The part of a head that has come: at most the first two bytes and a length of eight.
    head: [u8; 10],
    head_len: u8,
    /// A message has begun whose last frame has not come.
    fragmented: bool,
    /// Bytes to be passed over: the mask and the payload.
    pass: u64,
    /// What the messages are that have begun and were not asked for; none if compression is not agreed. As many as the
    /// codec has read and not handed out, so its buffer is the bound. In a box, since most connections need none.
    #[expect(clippy::box_collection, reason = "a pointer is a quarter of an empty queue")]
    kinds: Option<Box<VecDeque<Kind>>>,
}

impl Heads {
    /// At the beginning of a connection on which compression is agreed, or not.
    #[must_use]
    pub fn new(compressed: bool) -> Self {
        Self { kinds: compressed.then(Box::default), ..Self::default() }
    }

    /// Follows what was read, and takes the marks off.
    pub fn feed(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            if self.pass > 0 {
                let passed = usize::try_from(self.pass).unwrap_or(usize::MAX).min(bytes.len());
                self.pass -= passed as u64;
                bytes = bytes.get_mut(passed..).unwrap_or_default();
                continue;
            }
            let Some((first, rest)) = bytes.split_first_mut() else { return };
            if self.head_len == 0 {
                self.begin(first);
            }
            if let Some(place) = self.head.get_mut(usize::from(self.head_len)) {
                *place = *first;
                self.head_len += 1;
            }
            bytes = rest;
            let [kind, length, ..] = self.head;
            let length_bytes = match length & 0x7f {
                126 => 2,
                127 => 8,
                _ => 0,
            };
            if usize::from(self.head_len) < 2 + length_bytes || self.head_len < 2 {
                continue;
            }
            let payload = match length & 0x7f {
                short @ ..126 => u64::from(short),
                _ => self
                    .head
                    .iter()
                    .skip(2)
                    .take(length_bytes)
                    .fold(0, |length, byte| length << 8 | u64::from(*byte)),
            };
            let mask = if length & 0x80 == 0 { 0 } else { 4 };
            self.pass = payload.saturating_add(mask);
            self.head_len = 0;
            // Control frames, whose opcodes begin at 8, may come between the frames of a message.
            if kind & 0x0f < 8 {
                self.fragmented = kind & FINAL == 0;
            }
        }
    }

    /// The first byte of a frame.
    fn begin(&mut self, first: &mut u8) {
        let Some(kinds) = &mut self.kinds else { return };
        let kind = match (*first & OPCODE, *first & RSV1 != 0) {
            (TEXT, true) => Kind::CompressedText,
            (BINARY, true) => Kind::CompressedBinary,
            (TEXT | BINARY, false) => Kind::Plain,
            // The rest of a message, or none.
            _ => return,
        };
        kinds.push_back(kind);
        if kind != Kind::Plain {
            *first = *first & !(RSV1 | OPCODE) | BINARY;
        }
    }

    /// What the next message is that the codec hands out.
    pub fn next_message(&mut self) -> Kind {
        self.kinds.as_mut().and_then(|kinds| kinds.pop_front()).unwrap_or(Kind::Plain)
    }

    /// Whether compression is agreed.
    #[must_use]
    pub const fn is_compressed(&self) -> bool {
        self.kinds.is_some()
    }

    /// How much of the present frame is still to come, its mask included. A codec knows no length before it has the mask too.
    #[must_use]
    pub const fn to_come(&self) -> u64 {
        self.pass
    }

    /// Whether what went by ends with a message, so that nothing of another is under way.
    #[must_use]
    pub const fn is_between_messages(&self) -> bool {
        self.head_len == 0 && self.pass == 0 && !self.fragmented
    }
}

/// The bit that permessage-deflate marks messages with.
const RSV1: u8 = 0x40;
const FINAL: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const TEXT: u8 = 1;
const BINARY: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A masked frame of zeros.
    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match length {
            ..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
            126..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(vec![0; 4 + length]);
        frame
    }

    #[test]
    fn a_mark_is_taken_off_the_first_frame_of_a_message_and_nowhere_else() {
        for (name, agreed, before, after, kinds) in [
            ("text", true, &[0xc1][..], &[0x82][..], &[Kind::CompressedText][..]),
            ("bytes", true, &[0xc2], &[0x82], &[Kind::CompressedBinary]),
            ("plain", true, &[0x81, 0x82], &[0x81, 0x82], &[Kind::Plain, Kind::Plain]),
            (
                "fragments",
                true,
                &[0x41, 0x89, 0x00, 0x80],
                &[0x02, 0x89, 0x00, 0x80],
                &[Kind::CompressedText],
            ),
            ("on a continuation", true, &[0x41, 0xc0], &[0x02, 0xc0], &[Kind::CompressedText]),
            ("on a ping", true, &[0xc9], &[0xc9], &[]),
            ("other reserved bits", true, &[0xf1], &[0xb2], &[Kind::CompressedText]),
            ("on an unknown opcode", true, &[0xc3], &[0xc3], &[]),
            ("not agreed", false, &[0xc1], &[0xc1], &[]),
        ] {
            let mut bytes: Vec<u8> = before.iter().flat_map(|first| frame(*first, 3)).collect();
            let mut heads = Heads::new(agreed);
            heads.feed(&mut bytes);
            let expected: Vec<u8> = after.iter().flat_map(|first| frame(*first, 3)).collect();
            assert_eq!(bytes, expected, "{name}");
            for kind in kinds {
                assert_eq!(heads.next_message(), *kind, "{name}");
            }
            assert_eq!(heads.next_message(), Kind::Plain, "{name}");
        }
    }

    proptest! {
        #[test]
        fn the_boundary_is_found_however_the_bytes_arrive(
            frames in prop::collection::vec((0..5_usize, 0..70_000_usize), 1..6),
            cuts in prop::collection::vec(1..9_000_usize, 1..9),
            agreed: bool,
        ) {
            let mut bytes = Vec::new();
            let mut expected = Vec::new();
            let mut between = vec![0];
            let mut open = false;
            for (kind, length) in frames {
                let (first, length) = match kind {
                    0 => (0x89, length % 126),
                    1 => (if open { 0x00 } else { 0x41 }, length),
                    2 => (0x8a, 0),
                    3 => (if open { 0x80 } else { 0x81 }, length % 126),
                    _ => (if open { 0x80 } else { 0xc1 }, length),
                };
                if first & 0x0f < 8 {
                    open = first & 0x80 == 0;
                }
                bytes.extend(frame(first, length));
                let marked = agreed && first & RSV1 != 0;
                expected.extend(frame(if marked { first & FINAL | BINARY } else { first }, length));
                if !open {
                    between.push(bytes.len());
                }
            }
            let mut heads = Heads::new(agreed);
            let mut at = 0;
            for cut in cuts.iter().cycle() {
                let next = (at + cut).min(bytes.len());
                heads.feed(&mut bytes[at..next]);
                at = next;
                prop_assert_eq!(heads.is_between_messages(), between.contains(&at), "at {}", at);
                if at == bytes.len() {
                    break;
                }
            }
            prop_assert!(bytes == expected);
        }
    }
}
