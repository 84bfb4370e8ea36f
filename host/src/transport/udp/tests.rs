use super::*;

fn packet(port: u16, length: u32) -> Packet {
    Packet {
        length,
        port,
        peer: 7,
        ..Packet::default()
    }
}

fn segmented(lengths: &[u32]) -> usize {
    let packets: Vec<_> = lengths.iter().map(|length| packet(1, *length)).collect();
    segments(&packets, 2000).count
}

#[test]
fn segments_are_of_one_length_but_for_a_shorter_last_one() {
    for (lengths, count) in [
        (&[][..], 0),
        (&[10], 1),
        (&[10, 10, 10], 3),
        (&[10, 10, 9, 10], 3),
        (&[10, 11], 1),
        (&[10, 10, 0], 2),
        (&[0, 0], 0),
        (&[2001, 2001], 0),
        (&[1; 100], DATAGRAM_BATCH),
        (&[2000; 60], 32),
    ] {
        assert_eq!(segmented(lengths), count, "{lengths:?}");
    }
    let others = [packet(1, 5), packet(1, 5), packet(2, 5)];
    assert_eq!(segments(&others, 2000).count, 2);
}

fn in_runtime<T>(test: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    test()
}

fn bound(url: &str) -> Udp {
    let crate::endpoint::Endpoint::Udp(endpoint) = url.parse().unwrap() else {
        panic!("{url}");
    };
    let crate::endpoint::HostName::Address(ip) = endpoint.host else {
        panic!("{url}");
    };
    let bound = UdpSockets::bind(&endpoint, SocketAddr::new(ip, 0), 1).unwrap();
    Udp::new(bound.sockets.into_iter().next().unwrap(), Peers::Many).unwrap()
}

#[test]
fn plain_packets_go_until_segments_begin_or_the_source_changes() {
    let udp = in_runtime(|| bound("udp://0.0.0.0:0"));
    let source = Source::default();
    let count = |ports: &[u16]| {
        let packets: Vec<_> = ports.iter().map(|port| packet(*port, 5)).collect();
        plain(&packets, &udp, source)
    };
    assert_eq!(count(&[1, 2, 3]), 3);
    assert_eq!(count(&[1, 2, 2, 2, 3]), 5);
    assert_eq!(count(&[1, 2, 2, 2, 2, 3]), 1);
    // They were refused as segments.
    assert_eq!(count(&[2, 2, 2, 2, 3]), 5);
    let mut packets = vec![packet(1, 5); 3];
    packets[2].local = 0xffff_7f00_0001;
    assert_eq!(plain(&packets, &udp, source), 2);
}

#[test]
fn options_reach_the_socket() {
    for url in ["udp://127.0.0.1:0", "udp://[::1]:0", "udp://[::]:0"] {
        let udp = in_runtime(|| bound(&format!("{url}?receive-buffer=40000")));
        let socket = SockRef::from(&udp.socket);
        // The kernel doubles it for its own needs (socket(7)).
        assert_eq!(socket.recv_buffer_size().unwrap(), 80_000, "{url}");
        udp.set_multicast_ttl(3).unwrap();
        udp.set_multicast_loop(false).unwrap();
        assert_eq!(socket.multicast_ttl_v4().unwrap(), 3);
        assert!(!socket.multicast_loop_v4().unwrap());
        if udp.family == Family::V6 {
            assert_eq!(socket.multicast_hops_v6().unwrap(), 3);
            assert!(!socket.multicast_loop_v6().unwrap());
        }
    }
}

#[test]
fn an_address_in_use_is_an_error_also_when_its_owner_shares_it() {
    let crate::endpoint::Endpoint::Udp(endpoint) = "udp://127.0.0.1:0".parse().unwrap() else {
        panic!();
    };
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let first = UdpSockets::bind(&endpoint, loopback, 2).unwrap();
    assert_eq!(first.sockets.len(), 2);
    for count in [1, 2] {
        let error = UdpSockets::bind(&endpoint, first.local, count).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}

#[test]
fn an_answer_leaves_from_where_it_was_asked_but_never_from_a_group() {
    let (one, any) = in_runtime(|| (bound("udp://127.0.0.1:0"), bound("udp://0.0.0.0:0")));
    let (own, group, peer) = (0xffff_7f00_0002, 0xffff_ef00_0001, 0xffff_7f00_0001);
    let ask = |udp: &Udp, local, peer, scope| {
        let source = udp.source(&Packet {
            local,
            peer,
            scope,
            ..Packet::default()
        });
        (source.local, source.interface)
    };
    assert_eq!(ask(&one, own, peer, 0), (0, 0));
    assert_eq!(ask(&any, own, peer, 0), (own, 0));
    assert_eq!(ask(&any, 0, peer, 5), (0, 0));
    assert_eq!(ask(&any, group, peer, 0), (0, 0));
    assert_eq!(ask(&any, 0, group, 5), (0, 5));
}
