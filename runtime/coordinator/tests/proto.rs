//! The codec against what two real servers (3.8.0 and 3.9.5) said on the wire, and against bytes that nobody should
//! send.

use bytes::Bytes;
use flow_coordinator::proto::*;
use proptest::prelude::*;

/// One exchange of a transcript.
struct Exchange {
    name: String,
    request: Vec<u8>,
    /// Packets that came back: what is no packet (`CLOSED`, `TIMEOUT`) is left out.
    replies: Vec<Vec<u8>>,
}

fn transcript(version: &str) -> Vec<Exchange> {
    let path = format!("{}/tests/golden/wire-{version}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("transcript");
    let exchanges: Vec<_> = text
        .lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
            let replies = value["rep"].as_array().expect("replies").iter();
            Exchange {
                name: value["name"].as_str().expect("name").to_owned(),
                request: hex::decode(value["req"].as_str().expect("request")).expect("hex"),
                replies: replies.filter_map(|reply| hex::decode(reply.as_str()?).ok()).collect(),
            }
        })
        .collect();
    assert_eq!(exchanges.len(), 90);
    exchanges
}

fn is_connect(exchange: &Exchange) -> bool {
    exchange.name.contains("connect")
}

#[test]
fn every_request_of_the_transcripts_is_read_and_written_alike() {
    for version in ["zk38", "zk39"] {
        for exchange in transcript(version) {
            let mut again = Vec::new();
            if is_connect(&exchange) {
                let connect = decode_connect(&mut Reader::new(&exchange.request)).expect(&exchange.name);
                encode_connect(&connect, &mut again);
                assert_eq!(again, exchange.request, "{}", exchange.name);
                continue;
            }
            let body = Bytes::from(exchange.request.clone());
            let header = decode_request_header(&mut Reader::new(&body)).expect("header");
            match (exchange.name.as_str(), decode_request(header.op, &body.slice(8..))) {
                ("unknown opcode", found) => assert_eq!(found, Err(DecodeError::Unknown(99))),
                ("check(top level)", found) => assert_eq!(found, Err(DecodeError::Unknown(13))),
                ("truncated request", found) => assert_eq!(found, Err(DecodeError::Malformed)),
                (name, Err(error)) => panic!("{version} {name}: {error}"),
                (name, Ok(request)) => {
                    encode_request_header(
                        RequestHeader { xid: header.xid, op: op_code(&request) },
                        &mut again,
                    );
                    encode_request(&request, &mut again);
                    assert_eq!(again, exchange.request, "{version} {name}");
                }
            }
        }
    }
}

#[test]
fn every_reply_of_the_transcripts_is_read_and_written_alike() {
    let mut seen = 0;
    for version in ["zk38", "zk39"] {
        for exchange in transcript(version) {
            for packet in &exchange.replies {
                seen += 1;
                let mut again = Vec::new();
                let reader = &mut Reader::new(packet);
                if is_connect(&exchange) {
                    let reply = decode_connect_reply(reader).expect(&exchange.name);
                    encode_connect_reply(&reply, &mut again);
                    assert_eq!(&again, packet, "{}", exchange.name);
                    continue;
                }
                let header = decode_reply_header(reader).expect("header");
                encode_reply_header(header, &mut again);
                if header.xid == XID_EVENT {
                    let event = decode_event(reader).expect("event");
                    encode_event(event.kind, &event.path, &mut again);
                } else if header.err == 0 {
                    let asked = decode_request_header(&mut Reader::new(&exchange.request)).expect("header");
                    let response = decode_response(asked.op, &packet[16..]).expect(&exchange.name);
                    encode_response(&response, &mut again);
                } else {
                    assert!(Code::from_number(header.err).is_some(), "{}", header.err);
                }
                assert_eq!(&again, packet, "{version} {}", exchange.name);
            }
        }
    }
    assert!(seen > 160, "only {seen} packets");
}

#[test]
fn a_client_before_3_4_leaves_a_byte_out() {
    let mut bytes = Vec::new();
    let old = ConnectRequest { timeout_ms: 9000, password: vec![0; 16], ..ConnectRequest::default() };
    encode_connect(&old, &mut bytes);
    assert_eq!(bytes.len(), 44);
    assert_eq!(decode_connect(&mut Reader::new(&bytes)), Ok(old));
}

#[test]
fn lengths_beyond_the_packet_are_refused_before_anything_is_made_for_them() {
    for length in [i32::MIN, -2, 3, 1 << 30, i32::MAX] {
        let mut body = length.to_be_bytes().to_vec();
        body.extend_from_slice(b"/a");
        for op in [op::CREATE, op::GET_DATA, op::DELETE, op::SET_ACL, op::AUTH, op::SASL] {
            let body = Bytes::from(body.clone());
            let found = if op == op::AUTH {
                decode_request(op, &Bytes::from([&[0; 4], &body[..]].concat()))
            } else {
                decode_request(op, &body)
            };
            assert_eq!(found, Err(DecodeError::Malformed), "op {op}, length {length}");
        }
        let watches = Bytes::from([&[0; 8], &body[..]].concat());
        assert_eq!(decode_request(op::SET_WATCHES, &watches), Err(DecodeError::Malformed));
    }
}

#[test]
fn a_multi_holds_no_multi_and_no_read_among_writes() {
    for (outer, inner) in [(op::MULTI, op::MULTI), (op::MULTI, op::GET_DATA), (op::MULTI_READ, op::DELETE)] {
        let mut body = inner.to_be_bytes().to_vec();
        body.extend_from_slice(&[0, 255, 255, 255, 255]);
        body.extend_from_slice(&[0, 0, 0, 2, b'/', b'a', 0, 0, 0, 0]);
        body.extend_from_slice(&[255, 255, 255, 255, 1, 255, 255, 255, 255]);
        assert_eq!(decode_request(outer, &Bytes::from(body)), Err(DecodeError::Malformed));
    }
}

#[test]
fn data_that_is_read_shares_the_packet() {
    let request =
        Request::SetData { path: "/a".into(), data: Some(Bytes::from_static(b"data")), version: -1 };
    let mut body = Vec::new();
    encode_request(&request, &mut body);
    let body = Bytes::from(body);
    let Ok(Request::SetData { data: Some(data), .. }) = decode_request(op::SET_DATA, &body) else {
        panic!("no setData");
    };
    assert!(body.as_ptr_range().contains(&data.as_ptr()));
}

fn paths() -> impl Strategy<Value = String> {
    "(/[a-zä]{0,4}){1,3}"
}

fn data() -> impl Strategy<Value = Option<Bytes>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from))
}

fn ids() -> impl Strategy<Value = Id> {
    ("[a-z]{0,6}", "[a-z:=]{0,9}").prop_map(|(scheme, id)| Id { scheme, id })
}

fn acls() -> impl Strategy<Value = Vec<Acl>> {
    proptest::collection::vec((any::<i32>(), ids()).prop_map(|(perms, id)| Acl { perms, id }), 0..4)
}

fn creates() -> impl Strategy<Value = Request> {
    let kinds = proptest::sample::select(vec![
        CreateOp::Create,
        CreateOp::Create2,
        CreateOp::Container,
        CreateOp::Ttl,
    ]);
    (kinds, paths(), data(), acls(), any::<i32>(), any::<i64>()).prop_map(
        |(op, path, data, acl, flags, ttl)| {
            Request::Create(Create {
                op,
                path,
                data,
                acl,
                flags,
                ttl: if op == CreateOp::Ttl { ttl } else { 0 },
            })
        },
    )
}

fn multi_writes() -> impl Strategy<Value = Request> {
    prop_oneof![
        creates(),
        (paths(), any::<i32>()).prop_map(|(path, version)| Request::Delete { path, version }),
        (paths(), any::<i32>()).prop_map(|(path, version)| Request::Check { path, version }),
        (paths(), data(), any::<i32>()).prop_map(|(path, data, version)| Request::SetData {
            path,
            data,
            version
        }),
    ]
}

fn requests() -> impl Strategy<Value = Request> {
    let texts = || proptest::collection::vec("[a-z/]{0,5}", 0..4);
    let alone = multi_writes().prop_filter("not alone", |request| !matches!(request, Request::Check { .. }));
    let reads = || {
        (paths(), any::<bool>(), 0..2).prop_map(|(path, watch, kind)| match kind {
            0 => Request::GetData { path, watch },
            _ => Request::GetChildren { path, watch },
        })
    };
    prop_oneof![
        alone,
        proptest::collection::vec(multi_writes(), 0..5).prop_map(Request::Multi),
        proptest::collection::vec(reads(), 0..5).prop_map(Request::MultiRead),
        reads(),
        (paths(), any::<i32>(), any::<bool>(), 0..10).prop_map(|(path, number, watch, kind)| match kind {
            0 => Request::Exists { path, watch },
            1 => Request::GetChildren2 { path, watch },
            2 => Request::GetAcl { path },
            3 => Request::GetAllChildrenNumber { path },
            4 => Request::GetEphemerals { prefix: path },
            5 => Request::Sync { path },
            6 => Request::AddWatch { path, mode: number },
            7 => Request::CheckWatches { path, kind: number },
            8 => Request::RemoveWatches { path, kind: number },
            _ => Request::Auth { kind: number, scheme: path, auth: Bytes::from_static(b"a:b") },
        }),
        (paths(), acls(), any::<i32>()).prop_map(|(path, acl, version)| Request::SetAcl {
            path,
            acl,
            version
        }),
        (texts(), texts(), texts(), texts(), texts(), any::<i64>()).prop_map(
            |(data, exist, child, persistent, persistent_recursive, relative_zxid)| {
                Request::SetWatches(SetWatches {
                    relative_zxid,
                    data,
                    exist,
                    child,
                    persistent,
                    persistent_recursive,
                })
            }
        ),
        (proptest::option::of("[a-z]{0,4}"), proptest::option::of("[0-9]{0,4}"), any::<i64>()).prop_map(
            |(joining, leaving, config_id)| Request::Reconfig {
                joining,
                leaving,
                new_members: None,
                config_id
            }
        ),
        data().prop_map(|token| Request::Sasl { token }),
        Just(Request::WhoAmI),
        Just(Request::Ping),
        Just(Request::CloseSession),
    ]
}

fn stats() -> impl Strategy<Value = Stat> {
    proptest::array::uniform11(any::<i64>()).prop_map(|numbers| {
        let int = |at: usize| numbers[at] as i32;
        Stat {
            czxid: numbers[0],
            mzxid: numbers[1],
            ctime: numbers[2],
            mtime: numbers[3],
            version: int(4),
            cversion: int(5),
            aversion: int(6),
            ephemeral_owner: numbers[7],
            data_length: int(8),
            num_children: int(9),
            pzxid: numbers[10],
        }
    })
}

fn responses() -> impl Strategy<Value = (i32, Response)> {
    let names = || proptest::collection::vec("[a-z]{0,5}", 0..4);
    let results = proptest::collection::vec(
        prop_oneof![
            paths().prop_map(|path| (op::CREATE, Ok(Response::Path(path)))),
            stats().prop_map(|stat| (op::SET_DATA, Ok(Response::Stat(stat)))),
            Just((op::DELETE, Ok(Response::Empty))),
            Just((op::ERROR, Ok(Response::ErrorResponse(0)))),
            Just((op::ERROR, Err(Code::RuntimeInconsistency))),
        ],
        0..5,
    );
    prop_oneof![
        (data(), stats()).prop_map(|(data, stat)| (op::GET_DATA, Response::Data { data, stat })),
        (names(), stats())
            .prop_map(|(children, stat)| (op::GET_CHILDREN2, Response::Children2 { children, stat })),
        (acls(), stats()).prop_map(|(acl, stat)| (op::GET_ACL, Response::Acl { acl, stat })),
        (paths(), stats()).prop_map(|(path, stat)| (op::CREATE2, Response::Created { path, stat })),
        names().prop_map(|names| (op::GET_EPHEMERALS, Response::Ephemerals(names))),
        proptest::collection::vec(ids(), 0..3).prop_map(|ids| (op::WHO_AM_I, Response::WhoAmI(ids))),
        any::<i32>().prop_map(|count| (op::GET_ALL_CHILDREN_NUMBER, Response::Count(count))),
        results.prop_map(|results| (op::MULTI, Response::Multi(results))),
    ]
}

proptest! {
    #[test]
    fn a_request_comes_back_as_it_was(request in requests()) {
        let mut bytes = Vec::new();
        encode_request(&request, &mut bytes);
        let body = Bytes::from(bytes);
        prop_assert_eq!(decode_request(op_code(&request), &body), Ok(request.clone()));
        // Cut off anywhere it is malformed: nothing is taken for what is not there.
        for end in 0..body.len() {
            prop_assert_eq!(decode_request(op_code(&request), &body.slice(..end)), Err(DecodeError::Malformed));
        }
    }

    #[test]
    fn a_response_comes_back_as_it_was((op, response) in responses()) {
        let mut bytes = Vec::new();
        encode_response(&response, &mut bytes);
        prop_assert_eq!(decode_response(op, &bytes), Ok(response));
        for end in 0..bytes.len() {
            prop_assert_eq!(decode_response(op, &bytes[..end]), Err(DecodeError::Malformed));
        }
    }

    #[test]
    fn no_bytes_are_too_much(op in -12..110, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let body = Bytes::from(bytes);
        let _ = decode_request(op, &body);
        let _ = decode_response(op, &body);
        let _ = decode_connect(&mut Reader::new(&body));
        let _ = decode_connect_reply(&mut Reader::new(&body));
        let _ = decode_event(&mut Reader::new(&body));
    }

    #[test]
    fn a_changed_request_is_read_or_refused(
        request in requests(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        op in -12..110,
    ) {
        let mut bytes = Vec::new();
        encode_request(&request, &mut bytes);
        if !bytes.is_empty() {
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        let body = Bytes::from(bytes);
        let _ = decode_request(op_code(&request), &body);
        let _ = decode_request(op, &body);
    }
}
