//! The server's certificate with what its authority says of it: which certificates, from where, and what follows when it is
//! not good. Each scenario runs against the program and, if `SONATA_REFERENCE` names the original server, against that too.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../ocsp/tests/support/authority.rs"]
mod authority;
mod support;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use authority::{Answer, Authority, Issued, State, Use, response};
use support::PATIENCE;
use support::eventually;
use support::folder::Folder;
use support::now_s;
use support::process::{Process, SONATA, programs};
use support::responder::Responder;
use support::secure::Secure;

/// An authority with its responder, and a server's certificate.
struct World {
    folder: Folder,
    authority: Arc<Authority>,
    responder: Responder,
    leaf: Issued,
    /// The last response.
    said: Arc<Mutex<Vec<u8>>>,
    /// Whether the server has a folder to keep responses in.
    has_store: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Promise {
    MustStaple,
    None,
}

impl World {
    fn new(promise: Promise) -> Self {
        let authority = Arc::new(Authority::new("root"));
        let responder = Responder::start();
        let must_staple = promise == Promise::MustStaple;
        let leaf = authority.issue("server", Use::Server, Some(&responder.url), must_staple);
        let folder = Folder::new();
        folder.write("leaf.pem", &leaf.pem);
        folder.write("leaf.key", &leaf.key.serialize_pem());
        folder.write("root.pem", &authority.pem);
        Self { folder, authority, responder, leaf, said: Arc::default(), has_store: true }
    }

    /// Has the authority say this of everything, with times relative to the moment of the question.
    fn says(&self, status: State, this_update_s: i64, next_update_s: Option<i64>) {
        let (authority, said) = (self.authority.clone(), self.said.clone());
        self.responder.says(move |request| {
            let answer = Answer {
                status,
                this_update_s: now_s() + this_update_s,
                next_update_s: next_update_s.map(|next| now_s() + next),
            };
            let bytes = response(request, answer, &authority.key, &[]);
            *said.lock().unwrap() = bytes.clone();
            Some(bytes)
        });
    }

    fn write_config(&self, more: &str) -> PathBuf {
        let at = |name: &str| self.folder.at(name).display().to_string();
        let (leaf, key, root, store) = (at("leaf.pem"), at("leaf.key"), at("root.pem"), at("store"));
        let store = if self.has_store { format!("store_dir: {store:?}") } else { String::new() };
        self.folder.write(
            "x.conf",
            &format!(
                "listen: \"127.0.0.1:-1\"\n{store}\n{more}\n\
                 tls {{ cert_file: {leaf:?}, key_file: {key:?}, ca_file: {root:?}, timeout: 10 }}\n"
            ),
        )
    }

    fn start(&self, program: &Path, more: &str) -> Process {
        let conf = self.write_config(more);
        Process::start(program, &["-D", "-c", conf.to_str().unwrap()])
    }

    fn enter(&self, process: &Process) -> Secure {
        Secure::enter(process.port(), &self.authority.der, None).unwrap()
    }

    fn said(&self) -> Vec<u8> {
        self.said.lock().unwrap().clone()
    }

    /// Where the response is kept.
    fn stored(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.at("store").join("ocsp")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

#[test]
fn a_certificate_that_must_be_stapled_is() {
    for program in programs() {
        let world = World::new(Promise::MustStaple);
        world.says(State::Good, -10, Some(1000));
        let process = world.start(&program, "");
        process.wait_for("OCSP Stapling enabled for Client connections");
        let found = process.wait_for("Found OCSP status for Client certificate at");
        assert!(found.contains("leaf.pem': good, next update 20"), "{found}");
        assert_eq!(world.enter(&process).staple, world.said());
        let version = [&rustls::version::TLS12];
        let older = Secure::enter_with(process.port(), &world.authority.der, None, &version, "{}");
        assert_eq!(older.err().as_deref(), Some("+OK"), "verbose, and not before it was let in");
        assert_eq!(world.responder.asked(), 1, "{program:?}");

        // Kept under the certificate's fingerprint, for a start without a responder.
        let stored = world.stored();
        let [file] = &stored[..] else { panic!("{stored:?}") };
        assert_eq!(file.file_name().unwrap().len(), 64);
        assert_eq!(std::fs::read(file).unwrap(), world.said());
        world.responder.says(|_| None);
        drop(process);
        let process = world.start(&program, "");
        assert_eq!(world.enter(&process).staple, world.said());
        assert_eq!(world.responder.asked(), 1, "{program:?}");
    }
}

#[test]
fn the_configuration_says_which_certificates_are_stapled() {
    for program in programs() {
        for (promise, config, is_stapled) in [
            (Promise::None, "", false),
            (Promise::None, "ocsp: true", false),
            (Promise::None, "ocsp { mode: must }", false),
            (Promise::None, "ocsp { mode: always }", true),
            (Promise::MustStaple, "ocsp: true", true),
            (Promise::MustStaple, "ocsp { mode: must }", true),
            (Promise::MustStaple, "ocsp: false", false),
            (Promise::MustStaple, "ocsp { mode: never }", false),
        ] {
            let world = World::new(promise);
            world.says(State::Good, 0, Some(1000));
            let process = world.start(&program, config);
            let staple = world.enter(&process).staple;
            assert_eq!(staple, world.said(), "{program:?} {config}");
            assert_eq!(!staple.is_empty(), is_stapled, "{program:?} {config}");
            // The original says so before it has a log.
            if promise == Promise::MustStaple && !is_stapled && program == Path::new(SONATA) {
                process.wait_for("has MustStaple but OCSP is disabled");
            }
        }
    }
}

#[test]
fn another_responder_can_be_named() {
    for program in programs() {
        let world = World::new(Promise::MustStaple);
        let other = Responder::start();
        let authority = world.authority.clone();
        other.says(move |request| {
            let answer = Answer { status: State::Good, this_update_s: now_s(), next_update_s: None };
            Some(response(request, answer, &authority.key, &[]))
        });
        let process = world.start(&program, &format!("ocsp {{ url: {:?} }}", other.url));
        assert!(!world.enter(&process).staple.is_empty());
        assert_eq!((world.responder.asked(), other.asked()), (0, 1), "{program:?}");
    }
}

/// What a responder is made to say before a start.
type Scenario = fn(&World);

#[test]
fn without_a_response_that_is_good_enough_the_server_does_not_start() {
    const BAD: &str = "bad OCSP status update for certificate at";
    const NOT_GOOD: &str = "found existing OCSP status for certificate at";
    let cases: [(&str, Scenario, &str, &str); 9] = [
        ("nobody answers", |_| {}, "", BAD),
        ("garbage", |world| world.responder.says(|_| Some(b"garbage".to_vec())), "", BAD),
        ("try later", |world| world.responder.says(|_| Some(b"\x30\x03\x0a\x01\x03".to_vec())), "", BAD),
        ("too long", |world| world.responder.says(|_| Some(vec![0x30; 1 << 20])), "", BAD),
        (
            "expired",
            |world| world.says(State::Good, -100, Some(-10)),
            "",
            "invalid ocsp NextUpdate, is past time",
        ),
        (
            "not yet",
            |world| world.says(State::Good, 100, Some(200)),
            "",
            "invalid ocsp ThisUpdate, is future time",
        ),
        ("of another authority", of_another_authority, "", BAD),
        ("revoked", |world| world.says(State::Revoked, -10, Some(100)), "ocsp { mode: must }", NOT_GOOD),
        ("unknown", |world| world.says(State::Unknown, -10, Some(100)), "ocsp { mode: always }", NOT_GOOD),
    ];
    for program in programs() {
        for (name, scenario, config, error) in cases {
            let world = World::new(Promise::MustStaple);
            scenario(&world);
            let mut process = world.start(&program, config);
            assert_eq!(process.wait().code(), Some(1), "{program:?} {name}");
            assert!(process.lines().iter().any(|line| line.contains(error)), "{name}: {:?}", process.lines());
        }
    }
}

fn of_another_authority(world: &World) {
    let other = Authority::new("root");
    world.responder.says(move |request| {
        let answer = Answer { status: State::Good, this_update_s: now_s(), next_update_s: None };
        Some(response(request, answer, &other.key, &[]))
    });
}

/// The original does not look at which certificate a response is about, nor whether a delegate was made one.
#[test]
fn a_response_that_says_nothing_of_the_certificate_is_not_stapled() {
    let cases: [Scenario; 2] = [
        |world| {
            let authority = world.authority.clone();
            let other = World::new(Promise::None);
            world.responder.says(move |_| {
                let certificate = sonata_ocsp::certificate::Certificate::from_der(&other.leaf.der).unwrap();
                let issuer = sonata_ocsp::certificate::Certificate::from_der(&authority.der).unwrap();
                let request = sonata_ocsp::request::request(&certificate, issuer.key());
                let answer = Answer { status: State::Good, this_update_s: now_s(), next_update_s: None };
                Some(response(&request, answer, &authority.key, &[]))
            });
        },
        |world| {
            let server = world.authority.issue("no delegate", Use::Server, None, false);
            world.responder.says(move |request| {
                let answer = Answer { status: State::Good, this_update_s: now_s(), next_update_s: None };
                Some(response(request, answer, &server.key, &[&server.der]))
            });
        },
    ];
    for scenario in cases {
        let world = World::new(Promise::MustStaple);
        scenario(&world);
        let mut process = world.start(Path::new(SONATA), "");
        assert_eq!(process.wait().code(), Some(1));
    }
}

#[test]
fn a_delegate_of_the_issuer_may_answer() {
    for program in programs() {
        let world = World::new(Promise::MustStaple);
        let delegate = world.authority.issue("delegate", Use::Responses, None, false);
        world.responder.says(move |request| {
            let answer = Answer { status: State::Good, this_update_s: now_s(), next_update_s: None };
            Some(response(request, answer, &delegate.key, &[&delegate.der]))
        });
        let process = world.start(&program, "");
        assert!(!world.enter(&process).staple.is_empty());
    }
}

/// Whether to trust a revoked certificate is left to the clients, unless the operator has said otherwise.
#[test]
fn a_revoked_certificate_is_presented_as_such() {
    for program in programs() {
        let world = World::new(Promise::MustStaple);
        world.says(State::Revoked, -10, Some(1000));
        let process = world.start(&program, "");
        process.wait_for("leaf.pem': revoked");
        assert_eq!(world.enter(&process).staple, world.said());
    }
}

#[test]
fn a_response_is_renewed_before_it_runs_out_and_a_revocation_ends_the_server() {
    for program in programs() {
        let world = World::new(Promise::MustStaple);
        world.says(State::Good, -1, Some(3));
        let mut process = world.start(&program, "ocsp { mode: must }");
        let first = world.enter(&process).staple;
        process.wait_for("Received OCSP status for Client certificate");
        eventually("another staple", PATIENCE, || (world.enter(&process).staple != first).then_some(()));
        world.says(State::Revoked, -1, Some(3));
        assert!(process.wait().success(), "{program:?}");
        let lines = process.lines();
        assert!(lines.iter().any(|line| line.contains("leaf.pem': revoked")), "{lines:?}");
    }
}

/// A server that is told to staple while it runs does, and one that cannot goes on as it was.
#[test]
fn a_reload_changes_what_is_stapled() {
    for program in programs() {
        let world = World::new(Promise::None);
        let process = world.start(&program, "");
        assert!(world.enter(&process).staple.is_empty());
        world.says(State::Good, -1, Some(1000));
        world.write_config("ocsp { mode: always }");
        assert!(process.reload().contains("Reloaded server config"), "{:?}", process.lines());
        process.wait_for("Reloaded: OCSP");
        assert_eq!(world.enter(&process).staple, world.said());
        assert!(!world.said().is_empty());
        // What is current is not asked for again.
        process.reload();
        assert_eq!((world.responder.asked(), world.enter(&process).staple), (1, world.said()));
        world.write_config("ocsp { mode: never }");
        process.reload();
        assert!(world.enter(&process).staple.is_empty(), "{program:?}");
    }
}

/// With nowhere to keep it, the original asks again.
#[test]
fn a_reload_keeps_a_response_that_is_current() {
    let mut world = World::new(Promise::MustStaple);
    world.has_store = false;
    world.says(State::Good, -1, Some(1000));
    let process = world.start(Path::new(SONATA), "");
    let staple = world.enter(&process).staple;
    world.responder.says(|_| None);
    assert!(process.reload().contains("Reloaded server config"));
    assert_eq!(world.enter(&process).staple, staple);
}

#[test]
fn a_reload_that_finds_no_response_changes_nothing() {
    let world = World::new(Promise::None);
    let process = world.start(Path::new(SONATA), "");
    assert!(world.enter(&process).staple.is_empty());
    world.write_config("ocsp { mode: always }");
    let outcome = process.reload();
    assert!(outcome.contains("bad OCSP status update for certificate at"), "{outcome}");
    assert!(world.enter(&process).staple.is_empty());
}

/// Clients were promised a response: without one there is no handshake, until there is one again.
#[test]
fn when_a_response_has_run_out_there_is_no_handshake() {
    let world = World::new(Promise::MustStaple);
    world.says(State::Good, -1, Some(2));
    let process = world.start(Path::new(SONATA), "");
    let port = process.port();
    world.responder.says(|_| None);
    process.wait_for("Bad OCSP status update for certificate");
    eventually("a refused handshake", PATIENCE, || Secure::enter(port, &world.authority.der, None).err());
    world.says(State::Good, -1, Some(1000));
    eventually("a handshake", PATIENCE, || Secure::enter(port, &world.authority.der, None).ok());
}
