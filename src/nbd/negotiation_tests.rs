//! Tests of the handshake, byte by byte against the protocol document.

use proptest::prelude::*;

use super::super::Listed;
use super::*;

/// One Primary volume with an alias, one Secondary, nothing else.
#[derive(Default)]
struct TwoVolumes {
    lookups: Vec<(String, Purpose)>,
}

impl Exports for TwoVolumes {
    fn lookup(&mut self, name: &str, purpose: Purpose) -> Result<Export, Refusal> {
        self.lookups.push((name.to_owned(), purpose));
        let refuse = |kind, reason: &str| Err(Refusal { kind, reason: reason.to_owned() });
        match name {
            "r0/0" | "r0" => {
                let mut export = Export::new("r0/0", 0x1234_5600);
                export.description = "a disk".to_owned();
                Ok(export)
            }
            "r1/0" => refuse(RefusalKind::Policy, "r1 is Secondary: make it Primary first"),
            "bye" => refuse(RefusalKind::Shutdown, "urbd is stopping"),
            _ => refuse(RefusalKind::Unknown, "no such export"),
        }
    }

    fn list(&mut self) -> Vec<Listed> {
        let listed = |name: &str, text: &str| Listed { name: name.to_owned(), description: text.to_owned() };
        vec![listed("r0/0", "a disk"), listed("r1/0", "")]
    }
}

const GREETING: &[u8] = b"NBDMAGICIHAVEOPT\0\x03";

fn client_flags(flags: u32) -> Vec<u8> {
    flags.to_be_bytes().to_vec()
}

fn option_bytes(option: u32, payload: &[u8]) -> Vec<u8> {
    [b"IHAVEOPT", &option.to_be_bytes()[..], &(payload.len() as u32).to_be_bytes(), payload].concat()
}

fn info_payload(name: &str, requests: &[u16]) -> Vec<u8> {
    let mut payload = (name.len() as u32).to_be_bytes().to_vec();
    payload.extend_from_slice(name.as_bytes());
    payload.extend_from_slice(&(requests.len() as u16).to_be_bytes());
    requests.iter().for_each(|request| payload.extend_from_slice(&request.to_be_bytes()));
    payload
}

fn meta_payload(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut payload = (name.len() as u32).to_be_bytes().to_vec();
    payload.extend_from_slice(name.as_bytes());
    payload.extend_from_slice(&(queries.len() as u32).to_be_bytes());
    for query in queries {
        payload.extend_from_slice(&(query.len() as u32).to_be_bytes());
        payload.extend_from_slice(query.as_bytes());
    }
    payload
}

fn reply_bytes(option: u32, kind: u32, payload: &[u8]) -> Vec<u8> {
    let magic = [0x00, 0x03, 0xe8, 0x89, 0x04, 0x55, 0x65, 0xa9];
    let fields = [option, kind, payload.len() as u32].map(u32::to_be_bytes).concat();
    [&magic[..], &fields, payload].concat()
}

type Transcript = (Vec<u8>, Result<Option<Outcome>, NegotiationError>, usize);

/// Drives a handshake as the contract asks, the input cut into `chunks` lengths, over and over.
fn drive(input: &[u8], chunks: &[usize], exports: &mut TwoVolumes) -> Transcript {
    let mut negotiation = Negotiation::new();
    let mut sent = negotiation.take_output();
    let mut position = 0;
    let mut lengths = chunks.iter().cycle();
    while position < input.len() {
        let len = (*lengths.next().unwrap()).clamp(1, input.len() - position);
        let result = negotiation.feed(&input[position..position + len], exports);
        let output = negotiation.take_output();
        let waited = output.len() >= MAX_WAITING_BYTES;
        sent.extend(output);
        match result {
            Err(error) => return (sent, Err(error), position),
            Ok(progress) => {
                position += progress.consumed;
                if progress.outcome.is_some() {
                    return (sent, Ok(progress.outcome), position);
                }
                assert!(progress.consumed == len || waited, "stuck at {position}");
            }
        }
    }
    (sent, Ok(None), position)
}

/// What the server sends behind the greeting for these options, and how it ends.
fn haggle(options: &[Vec<u8>]) -> (Vec<u8>, Result<Option<Outcome>, NegotiationError>) {
    let input = [client_flags(3), options.concat()].concat();
    let (sent, end, _) = drive(&input, &[input.len()], &mut TwoVolumes::default());
    assert_eq!(&sent[..GREETING.len()], GREETING);
    (sent[GREETING.len()..].to_vec(), end)
}

fn opened(structured: bool) -> Option<Outcome> {
    let export = TwoVolumes::default().lookup("r0", Purpose::Open).unwrap();
    Some(Outcome::Go(Opened { export, client_flags: 3, structured }))
}

#[test]
fn go_answers_with_export_and_block_sizes_and_enters_transmission() {
    let (sent, end) = haggle(&[option_bytes(7, &info_payload("r0", &[]))]);
    let expected = [
        reply_bytes(7, 3, &[0, 0, 0, 0, 0, 0, 0x12, 0x34, 0x56, 0, 0x01, 0x6d]),
        reply_bytes(7, 3, &[0, 3, 0, 0, 2, 0, 0, 0, 0x10, 0, 2, 0, 0, 0]),
        reply_bytes(7, 1, &[]),
    ];
    assert_eq!(sent, expected.concat());
    assert_eq!(end, Ok(opened(false)));
}

#[test]
fn info_gives_the_canonical_name_and_the_description_on_request_and_opens_nothing() {
    let (sent, end) = haggle(&[option_bytes(6, &info_payload("r0", &[1, 2, 3, 9]))]);
    let expected = [
        reply_bytes(6, 3, &[0, 0, 0, 0, 0, 0, 0x12, 0x34, 0x56, 0, 0x01, 0x6d]),
        reply_bytes(6, 3, &[0, 3, 0, 0, 2, 0, 0, 0, 0x10, 0, 2, 0, 0, 0]),
        reply_bytes(6, 3, b"\0\x01r0/0"),
        reply_bytes(6, 3, b"\0\x02a disk"),
        reply_bytes(6, 1, &[]),
    ];
    assert_eq!(sent, expected.concat());
    assert_eq!(end, Ok(None));
}

#[test]
fn info_describes_and_go_opens() {
    let mut exports = TwoVolumes::default();
    let info = option_bytes(6, &info_payload("r0", &[]));
    let go = option_bytes(7, &info_payload("r0", &[]));
    let input = [client_flags(1), info, go].concat();
    assert!(matches!(drive(&input, &[7], &mut exports).1, Ok(Some(Outcome::Go(_)))));
    let expected = [("r0".to_owned(), Purpose::Describe), ("r0".to_owned(), Purpose::Open)];
    assert_eq!(exports.lookups, expected);
}

#[test]
fn export_name_answers_with_zeroes_unless_the_client_wants_none() {
    let name = option_bytes(1, b"r0/0");
    let answer = [0, 0, 0, 0, 0x12, 0x34, 0x56, 0, 0x01, 0x6d];
    for (flags, zeroes) in [(0, 124), (1, 124), (3, 0)] {
        let input = [client_flags(flags), name.clone(), b"transmission".to_vec()].concat();
        let (sent, end, consumed) = drive(&input, &[1000], &mut TwoVolumes::default());
        assert_eq!(sent, [GREETING, &answer, &vec![0; zeroes]].concat());
        assert!(matches!(end, Ok(Some(Outcome::Go(opened))) if opened.client_flags == flags));
        assert_eq!(&input[consumed..], b"transmission", "what follows is not the handshake's");
    }
}

#[test]
fn export_name_closes_silently_when_refused() {
    let (sent, end) = haggle(&[option_bytes(1, b"r1/0")]);
    assert_eq!(sent, b"");
    let text = end.unwrap_err().to_string();
    assert_eq!(text, "NBD export \"r1/0\" refused: r1 is Secondary: make it Primary first");
    assert!(matches!(haggle(&[option_bytes(1, b"\xff")]).1, Err(NegotiationError::BadExportName { .. })));
}

#[test]
fn a_refusal_carries_its_reason_and_haggling_goes_on() {
    let (sent, end) = haggle(&[
        option_bytes(7, &info_payload("r1/0", &[3])),
        option_bytes(6, &info_payload("r9/0", &[])),
        option_bytes(7, &info_payload("bye", &[])),
        option_bytes(7, &info_payload("r0", &[])),
    ]);
    let refused = [
        reply_bytes(7, 0x8000_0002, b"r1 is Secondary: make it Primary first"),
        reply_bytes(6, 0x8000_0006, b"no such export"),
        reply_bytes(7, 0x8000_0007, b"urbd is stopping"),
    ]
    .concat();
    assert_eq!(&sent[..refused.len()], refused);
    assert_eq!(end, Ok(opened(false)));
}

#[test]
fn list_names_every_export() {
    let (sent, end) = haggle(&[option_bytes(3, &[]), option_bytes(3, b"x")]);
    let expected = [
        reply_bytes(3, 2, b"\0\0\0\x04r0/0a disk"),
        reply_bytes(3, 2, b"\0\0\0\x04r1/0"),
        reply_bytes(3, 1, &[]),
        reply_bytes(3, 0x8000_0003, NO_DATA.as_bytes()),
    ];
    assert_eq!(sent, expected.concat());
    assert_eq!(end, Ok(None));
}

#[test]
fn structured_replies_are_agreed_and_allow_unfragmented_reads() {
    let (sent, end) =
        haggle(&[option_bytes(8, b"?"), option_bytes(8, &[]), option_bytes(7, &info_payload("r0", &[]))]);
    let expected = [
        reply_bytes(8, 0x8000_0003, NO_DATA.as_bytes()),
        reply_bytes(8, 1, &[]),
        reply_bytes(7, 3, &[0, 0, 0, 0, 0, 0, 0x12, 0x34, 0x56, 0, 0x01, 0xed]),
    ]
    .concat();
    assert_eq!(&sent[..expected.len()], expected);
    assert_eq!(end, Ok(opened(true)));
}

#[test]
fn metadata_contexts_find_nothing_and_need_structured_replies() {
    let query = meta_payload("r0", &["base:allocation"]);
    let (sent, end) = haggle(&[
        option_bytes(10, &query),
        option_bytes(8, &[]),
        option_bytes(10, &query),
        option_bytes(9, &meta_payload("r0", &[])),
        option_bytes(9, &meta_payload("r9", &[])),
        option_bytes(9, &query[..7]),
    ]);
    let expected = [
        reply_bytes(10, 0x8000_0003, b"structured replies come first"),
        reply_bytes(8, 1, &[]),
        reply_bytes(10, 1, &[]),
        reply_bytes(9, 1, &[]),
        reply_bytes(9, 0x8000_0006, b"no such export"),
        reply_bytes(9, 0x8000_0003, b"a field reaches past the end of the option"),
    ];
    assert_eq!(sent, expected.concat());
    assert_eq!(end, Ok(None));
}

#[test]
fn tls_extended_headers_and_the_unknown_are_unsupported_and_skipped() {
    for option in [5, 4, 11, 12, 0, u32::MAX] {
        let (sent, end) = haggle(&[option_bytes(option, &[0x55; 1000]), option_bytes(2, &[])]);
        let (first, rest) = sent.split_at(20);
        assert_eq!(first[8..16], [option.to_be_bytes(), 0x8000_0001_u32.to_be_bytes()].concat());
        assert!(rest.ends_with(&reply_bytes(2, 1, &[])));
        assert_eq!(end, Ok(Some(Outcome::Abort)));
    }
}

#[test]
fn too_long_or_too_many_options_end_the_connection_with_a_reason() {
    let too_long = [b"IHAVEOPT", &99_u32.to_be_bytes()[..], &(MAX_OPTION_BYTES + 1).to_be_bytes()].concat();
    let (sent, end) = haggle(&[too_long]);
    assert_eq!(sent, reply_bytes(99, 0x8000_0009, b"the option is longer than 65536 bytes"));
    assert_eq!(end, Err(NegotiationError::OptionTooLong { option: 99, len_bytes: MAX_OPTION_BYTES + 1 }));

    let longest = option_bytes(99, &vec![0; MAX_OPTION_BYTES as usize]);
    assert_eq!(haggle(&[longest]).1, Ok(None));
    let options = MAX_OPTIONS as usize;
    assert_eq!(haggle(&vec![option_bytes(3, &[]); options]).1, Ok(None));
    assert_eq!(haggle(&vec![option_bytes(3, &[]); options + 1]).1, Err(NegotiationError::TooManyOptions));
}

#[test]
fn waiting_output_stops_the_haggling_until_it_is_taken() {
    let mut negotiation = Negotiation::new();
    let input = [client_flags(1), vec![option_bytes(3, &[]); 1000].concat()].concat();
    let progress = negotiation.feed(&input, &mut TwoVolumes::default()).unwrap();
    assert!(progress.consumed < input.len());
    assert!(negotiation.take_output().len() < MAX_WAITING_BYTES + 200);
    let next = negotiation.feed(&input[progress.consumed..], &mut TwoVolumes::default()).unwrap();
    assert!(next.consumed > 0);
}

#[test]
fn unknown_client_flags_and_a_lost_stream_end_the_connection() {
    let (_, end, _) = drive(&client_flags(4), &[1], &mut TwoVolumes::default());
    assert_eq!(end, Err(NegotiationError::UnknownClientFlags { flags: 4 }));
    let (sent, end) = haggle(&[b"GET / HTTP/1.1\r\n".to_vec()]);
    assert_eq!(sent, b"");
    assert_eq!(end, Err(NegotiationError::BadOptionMagic { found: u64::from_be_bytes(*b"GET / HT") }));
}

#[test]
fn nothing_is_consumed_once_the_handshake_is_over() {
    let mut negotiation = Negotiation::new();
    let input = [client_flags(3), option_bytes(2, &[])].concat();
    let progress = negotiation.feed(&input, &mut TwoVolumes::default()).unwrap();
    assert_eq!(progress, Progress { consumed: input.len(), outcome: Some(Outcome::Abort) });
    let after = negotiation.feed(&input, &mut TwoVolumes::default()).unwrap();
    assert_eq!(after, Progress { consumed: 0, outcome: None });
}

fn any_option() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![Just("r0"), Just("r0/0"), Just("r1/0"), Just("bye"), Just(""), Just("zz")];
    prop_oneof![
        4 => (prop_oneof![Just(6u32), Just(7)], name, prop::collection::vec(0u16..5, 0..5))
            .prop_map(|(option, name, requests)| option_bytes(option, &info_payload(name, &requests))),
        2 => prop_oneof![Just(3u32), Just(8)].prop_map(|option| option_bytes(option, &[])),
        2 => (9u32..11, prop::collection::vec(Just("base:allocation"), 0..3))
            .prop_map(|(option, queries)| option_bytes(option, &meta_payload("r0", &queries))),
        3 => (0u32..13, prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(option, payload)| option_bytes(option, &payload)),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #[test]
    fn cutting_the_stream_differently_changes_nothing(
        flags in prop_oneof![9 => 0u32..4, 1 => any::<u32>()],
        options in prop::collection::vec(any_option(), 0..12),
        chunks in prop::collection::vec(1usize..40, 1..10),
        cut in 0usize..4000,
    ) {
        let mut input = [client_flags(flags), options.concat()].concat();
        input.truncate(cut.max(1));
        let (sent, end, at) = drive(&input, &[input.len()], &mut TwoVolumes::default());
        let (sent_cut, end_cut, at_cut) = drive(&input, &chunks, &mut TwoVolumes::default());
        prop_assert_eq!(sent, sent_cut);
        if end.is_ok() {
            prop_assert_eq!(at, at_cut);
        }
        prop_assert_eq!(end, end_cut);
    }

    #[test]
    fn random_bytes_never_panic(
        input in prop::collection::vec(any::<u8>(), 1..400),
        chunks in prop::collection::vec(1usize..40, 1..10),
    ) {
        let _ = drive(&input, &chunks, &mut TwoVolumes::default());
    }
}
