use super::*;

/// Feeds whole, split in two at every byte, and byte by byte; each must give the same.
fn check<D, F: Fn() -> D, E: fmt::Debug + PartialEq>(
    new: F,
    next: impl Fn(&mut D, &mut &[u8]) -> Option<Result<Vec<u8>, E>>,
    input: &[u8],
    expected: &[Result<&str, E>],
) {
    let mut ways: Vec<Vec<&[u8]>> = (0..=input.len())
        .map(|at| vec![&input[..at], &input[at..]])
        .collect();
    ways.push(input.chunks(1).collect());
    for way in ways {
        let mut decoder = new();
        let mut frames = Vec::new();
        for piece in &way {
            let mut data = *piece;
            while let Some(frame) = next(&mut decoder, &mut data) {
                frames.push(frame.map(|frame| String::from_utf8(frame).unwrap()));
            }
            assert!(data.is_empty(), "none means that all was taken");
        }
        let frames: Vec<Result<&str, &E>> = frames.iter().map(|frame| frame.as_deref()).collect();
        let expected: Vec<Result<&str, &E>> = expected
            .iter()
            .map(|frame| frame.as_ref().map(|text| *text))
            .collect();
        assert_eq!(
            frames,
            expected,
            "{:?} as {way:?}",
            input.escape_ascii().to_string()
        );
    }
}

#[test]
fn lines_are_the_same_however_they_are_split() {
    let long = Err(TooLong { maximum: 4 });
    let cases: &[(&str, &[Result<&str, TooLong>])] = &[
        ("", &[]),
        ("ab", &[]),
        ("ab\n", &[Ok("ab")]),
        ("ab\r\ncd\r\n", &[Ok("ab"), Ok("cd")]),
        ("\n\r\n\r\r\n", &[Ok(""), Ok(""), Ok("\r")]),
        ("a\rb\n", &[Ok("a\rb")]),
        ("abcd\n", &[Ok("abcd")]),
        ("abcd\r\nef\n", &[Ok("abcd"), Ok("ef")]),
        ("abcde\nfg\n", &[long, Ok("fg")]),
        ("abcdefghijkl\r\nfg\n", &[long, Ok("fg")]),
        ("abcd\re\nfg\n", &[long, Ok("fg")]),
        ("abcd\r\r\nfg\n", &[long, Ok("fg")]),
        ("abcdefgh", &[long]),
        ("ab\nabcdef\nabcdef\ncd", &[Ok("ab"), long, long]),
    ];
    for (input, expected) in cases {
        let next = |lines: &mut Lines, data: &mut &[u8]| {
            lines.next(data).map(|line| line.map(<[u8]>::to_vec))
        };
        check(|| Lines::new(4), next, input.as_bytes(), expected);
    }
}

#[test]
fn a_line_leaves_the_rest_to_the_caller() {
    let mut lines = Lines::new(10);
    let mut data = &b"DATA\r\nthe body"[..];
    assert_eq!(lines.next(&mut data), Some(Ok(&b"DATA"[..])));
    assert_eq!(data, b"the body");
}

#[test]
fn length_prefixes_are_the_same_however_they_are_split() {
    let long = Err(TooLong { maximum: 5 });
    type New = fn(usize) -> LengthPrefixed;
    type Case<'a> = (New, &'a [u8], &'a [Result<&'a str, TooLong>]);
    let cases: &[Case<'_>] = &[
        (LengthPrefixed::u8, b"", &[]),
        (LengthPrefixed::u8, b"\x00", &[Ok("")]),
        (
            LengthPrefixed::u8,
            b"\x02ab\x00\x01c\x03xy",
            &[Ok("ab"), Ok(""), Ok("c")],
        ),
        (
            LengthPrefixed::u8,
            b"\x05abcde\x06abcdef\x01a",
            &[Ok("abcde"), long],
        ),
        (
            LengthPrefixed::u16,
            b"\x00\x02ab\x00\x00\x00",
            &[Ok("ab"), Ok("")],
        ),
        (LengthPrefixed::u16, b"\x01\x00", &[long]),
        (
            LengthPrefixed::u32,
            b"\x00\x00\x00\x01a\x00\x00\x00\x03abc",
            &[Ok("a"), Ok("abc")],
        ),
        (LengthPrefixed::u32, b"\xff\xff\xff\xffabc", &[long]),
    ];
    for (new, input, expected) in cases {
        let next = |messages: &mut LengthPrefixed, data: &mut &[u8]| {
            messages.next(data).map(|m| m.map(<[u8]>::to_vec))
        };
        check(|| new(5), next, input, expected);
    }
}

#[test]
fn netstrings_are_the_same_however_they_are_split() {
    use MalformedNetstring::{End, Length, TooLong};
    let cases: &[(&str, &[Result<&str, MalformedNetstring>])] = &[
        ("", &[]),
        ("5:hello,", &[Ok("hello")]),
        ("0:,2:ab,1", &[Ok(""), Ok("ab")]),
        ("12:hello, world,", &[Ok("hello, world")]),
        ("13:", &[Err(TooLong(12))]),
        ("99999999999999999999999:", &[Err(TooLong(12))]),
        ("01:a,", &[Err(Length(b'1'))]),
        (":,", &[Err(Length(b':'))]),
        ("x", &[Err(Length(b'x'))]),
        ("1:ab1:c,", &[Err(End(b'b'))]),
    ];
    for (input, expected) in cases {
        let next = |netstrings: &mut Netstrings, data: &mut &[u8]| {
            netstrings.next(data).map(|n| n.map(<[u8]>::to_vec))
        };
        check(|| Netstrings::new(12), next, input.as_bytes(), expected);
    }
}

#[test]
fn cleared_decoders_begin_anew() {
    let mut lines = Lines::new(4);
    for part in [&b"ab"[..], b"abcdefg"] {
        // Held in the first round, skipped in the second.
        lines.next(&mut &*part);
        lines.clear();
        assert_eq!(lines.next(&mut &b"cd\n"[..]), Some(Ok(&b"cd"[..])));
    }
    // A line that was returned and not yet forgotten.
    assert_eq!(lines.next(&mut &b"x"[..]), None);
    assert_eq!(lines.next(&mut &b"y\n"[..]), Some(Ok(&b"xy"[..])));
    lines.clear();
    assert_eq!(lines.next(&mut &b"z\n"[..]), Some(Ok(&b"z"[..])));

    let mut messages = LengthPrefixed::u16(5);
    for part in [&b"\0"[..], b"\0\x04a", b"\xff\xff"] {
        messages.next(&mut &*part);
        messages.clear();
        assert_eq!(messages.next(&mut &b"\0\x02ab"[..]), Some(Ok(&b"ab"[..])));
    }

    let mut netstrings = Netstrings::new(5);
    for part in [&b"1"[..], b"4:a", b"2:ab", b"x"] {
        netstrings.next(&mut &*part);
        netstrings.clear();
        assert_eq!(netstrings.next(&mut &b"2:cd,"[..]), Some(Ok(&b"cd"[..])));
    }
}
