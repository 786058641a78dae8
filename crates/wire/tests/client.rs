//! A client against a listener of the test: frames come whole however they were sent, and every read ends.

// Helpers of tests stand outside of the functions that clippy recognises as tests.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use sonata_wire::client::{Connection, Received};
use sonata_wire::script::ReceiveBuffer;

/// Long enough for any machine; a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client whose server does `serve` and then closes.
fn client_of(serve: impl FnOnce(TcpStream) + Send + 'static) -> Connection {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || serve(listener.accept().unwrap().0));
    Connection::dial(port, ReceiveBuffer::Usual).unwrap()
}

fn receive(client: &mut Connection) -> Received {
    client.receive(Instant::now() + PATIENCE)
}

fn frame(bytes: &[u8]) -> Received {
    Received::Frame(bytes.to_vec())
}

#[test]
fn frames_are_whole_although_every_byte_came_alone() {
    let mut client = client_of(|mut server| {
        server.set_nodelay(true).unwrap();
        for byte in b"INFO {\"nonce\":\"abc\"} \r\nMSG a 1 4\r\n\r\n\r\n\r\nPONG\r\n" {
            server.write_all(&[*byte]).unwrap();
        }
    });
    assert_eq!(receive(&mut client), frame(b"INFO {\"nonce\":\"abc\"} \r\n"));
    assert_eq!(client.nonce(), "abc");
    assert_eq!(receive(&mut client), frame(b"MSG a 1 4\r\n\r\n\r\n\r\n"));
    assert_eq!(receive(&mut client), frame(b"PONG\r\n"));
    assert_eq!(receive(&mut client), Received::Closed);
    assert_eq!(receive(&mut client), Received::Closed);
}

#[test]
fn what_is_left_at_the_close_is_a_frame() {
    let mut client = client_of(|mut server| server.write_all(b"PONG\r\nMSG a 1 9\r\nshort").unwrap());
    assert_eq!(receive(&mut client), frame(b"PONG\r\n"));
    assert_eq!(receive(&mut client), frame(b"MSG a 1 9\r\nshort"));
    assert_eq!(receive(&mut client), Received::Closed);
}

#[test]
fn a_silent_server_ends_a_read_at_its_deadline() {
    let mut client = client_of(|mut server| {
        // Holds the connection until the client goes.
        let _ = server.read(&mut [0]);
    });
    assert_eq!(client.receive(Instant::now() + Duration::from_millis(20)), Received::TimedOut);
    assert!(!client.drain(Instant::now() + Duration::from_millis(20)));
}

#[test]
fn frames_sent_before_a_reset_are_read() {
    let mut client = client_of(|mut server| {
        server.write_all(b"-ERR 'Oops'\r\n").unwrap();
        // Closing with unread bytes resets the connection.
        let _ = server.peek(&mut [0]);
    });
    client.send(b"bogus\r\n");
    assert_eq!(receive(&mut client), frame(b"-ERR 'Oops'\r\n"));
    assert_eq!(receive(&mut client), Received::Closed);
    client.send(b"into the void\r\n");
}

#[test]
fn a_drain_forgets_everything_up_to_the_close() {
    let mut client = client_of(|mut server| server.write_all(&vec![b'x'; 1 << 20]).unwrap());
    assert!(client.drain(Instant::now() + PATIENCE));
    assert_eq!(receive(&mut client), Received::Closed);
}
