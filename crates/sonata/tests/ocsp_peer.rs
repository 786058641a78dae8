//! What authorities say of clients' certificates: who is let in, what is remembered, what the system account hears. Each
//! scenario runs against the program and, if `SONATA_REFERENCE` names the original server, against that too.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../ocsp/tests/support/authority.rs"]
mod authority;
mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use authority::{Answer, Authority, Issued, State, Use, asked, response};
use serde_json::{Value, json};
use sonata_ocsp::certificate::Certificate;
use sonata_ocsp::request::request;
use support::PATIENCE;
use support::eventually;
use support::folder::Folder;
use support::now_s;
use support::process::{Process, SONATA, programs};
use support::responder::Responder;
use support::secure::{Secure, https_get};

/// A root with a responder, a server that trusts the root, and two clients from an authority below it.
struct World {
    folder: Folder,
    root: Arc<Authority>,
    middle: Arc<Authority>,
    responder: Responder,
    client: Issued,
    other: Issued,
}

impl World {
    fn new() -> Self {
        let folder = Folder::new();
        let root = Arc::new(Authority::new("root"));
        let responder = Responder::start();
        let middle = Arc::new(root.intermediate("middle", None));
        let client = middle.issue("client", Use::Client, Some(&responder.url), false);
        let other = middle.issue("other", Use::Client, Some(&responder.url), false);
        let server = root.issue("server", Use::Server, None, false);
        folder.write("server.pem", &server.pem);
        folder.write("server.key", &server.key.serialize_pem());
        folder.write("root.pem", &root.pem);
        Self { folder, root, middle, responder, client, other }
    }

    /// Has the clients' authority say this, with times relative to the moment of the question.
    fn says(&self, status: State, this_update_s: i64, next_update_s: Option<i64>) {
        let middle = self.middle.clone();
        self.responder.says(move |request| {
            Some(response(request, answer(status, this_update_s, next_update_s), &middle.key, &[]))
        });
    }

    fn start(&self, program: &Path, peer: &str) -> Process {
        self.start_with(program, peer, "")
    }

    fn start_with(&self, program: &Path, peer: &str, more: &str) -> Process {
        let conf = self.write_config(peer, more);
        Process::start(program, &["-D", "-c", conf.to_str().unwrap()])
    }

    fn write_config(&self, peer: &str, more: &str) -> PathBuf {
        let at = |name: &str| self.folder.at(name).display().to_string();
        let (server, key, root, store) = (at("server.pem"), at("server.key"), at("root.pem"), at("answers"));
        let cache = if more.contains("ocsp_cache") {
            String::new()
        } else {
            format!("ocsp_cache {{ type: local, local_store: {store:?} }}\n")
        };
        self.folder.write(
            "x.conf",
            &format!(
                "listen: \"127.0.0.1:-1\"\nhttp: \"127.0.0.1:-1\"\n{cache}{more}\n\
                 tls {{ cert_file: {server:?}, key_file: {key:?}, ca_file: {root:?}, verify: true, timeout: 10\n\
                 ocsp_peer {peer} }}\n"
            ),
        )
    }

    fn enter(&self, process: &Process) -> Result<Secure, String> {
        self.enter_as(process, &self.client)
    }

    fn enter_as(&self, process: &Process, who: &Issued) -> Result<Secure, String> {
        let chain: [&[u8]; 2] = [&who.der, &self.middle.der];
        Secure::enter(process.port(), &self.root.der, Some((&chain, &who.key)))
    }

    fn cache_file(&self) -> PathBuf {
        self.folder.at("answers").join("cache.json")
    }
}

fn answer(status: State, this_update_s: i64, next_update_s: Option<i64>) -> Answer {
    let now_s = now_s();
    Answer {
        status,
        this_update_s: now_s + this_update_s,
        next_update_s: next_update_s.map(|next| now_s + next),
    }
}

fn varz(process: &Process) -> Value {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", process.monitor_port())).unwrap();
    stream.write_all(b"GET /varz HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// What the responder is made to say, what the server is told, and whether the client is let in.
struct Case {
    name: &'static str,
    peer: &'static str,
    says: fn(&World),
    is_let_in: bool,
}

const ON: &str = "{ verify: true }";

const CASES: &[Case] = &[
    Case { name: "good", peer: "true", says: |w| w.says(State::Good, -10, Some(100)), is_let_in: true },
    Case { name: "good for ever", peer: ON, says: |w| w.says(State::Good, -10, None), is_let_in: true },
    Case { name: "revoked", peer: ON, says: |w| w.says(State::Revoked, -10, Some(100)), is_let_in: false },
    Case { name: "unknown", peer: ON, says: |w| w.says(State::Unknown, -10, Some(100)), is_let_in: false },
    Case {
        name: "unknown is good",
        peer: "{ verify: true, unknown_is_good: true }",
        says: |w| w.says(State::Unknown, -10, Some(100)),
        is_let_in: true,
    },
    Case {
        name: "revoked, but only warned of",
        peer: "{ verify: true, warn_only: true }",
        says: |w| w.says(State::Revoked, -10, Some(100)),
        is_let_in: true,
    },
    Case { name: "nobody answers", peer: ON, says: |_| {}, is_let_in: false },
    Case {
        name: "nobody answers, which is put up with",
        peer: "{ verify: true, allow_when_ca_unreachable: true }",
        says: |_| {},
        is_let_in: true,
    },
    Case {
        name: "nobody answers, which is warned of",
        peer: "{ verify: true, warn_only: true }",
        says: |_| {},
        is_let_in: true,
    },
    Case {
        name: "garbage is not put up with",
        peer: "{ verify: true, allow_when_ca_unreachable: true }",
        says: |w| w.responder.says(|_| Some(b"garbage".to_vec())),
        is_let_in: false,
    },
    Case {
        name: "garbage, which is warned of",
        peer: "{ verify: true, warn_only: true }",
        says: |w| w.responder.says(|_| Some(b"garbage".to_vec())),
        is_let_in: true,
    },
    Case {
        name: "too long",
        peer: ON,
        says: |w| w.responder.says(|_| Some(vec![0x30; 1 << 20])),
        is_let_in: false,
    },
    Case {
        name: "expired within the skew",
        peer: ON,
        says: |w| w.says(State::Good, -100, Some(-10)),
        is_let_in: true,
    },
    Case { name: "expired", peer: ON, says: |w| w.says(State::Good, -100, Some(-40)), is_let_in: false },
    Case {
        name: "expired without skew",
        peer: "{ verify: true, allowed_clockskew: 0 }",
        says: |w| w.says(State::Good, -100, Some(-10)),
        is_let_in: false,
    },
    Case { name: "not yet", peer: ON, says: |w| w.says(State::Good, 60, Some(100)), is_let_in: false },
    Case {
        name: "too old without a next update",
        peer: "{ verify: true, cache_ttl_when_next_update_unset: 10 }",
        says: |w| w.says(State::Good, -60, None),
        is_let_in: false,
    },
    Case {
        name: "by another authority",
        peer: ON,
        says: |w| {
            let other = Authority::new("middle");
            w.responder.says(move |request| {
                Some(response(request, answer(State::Good, -10, None), &other.key, &[]))
            });
        },
        is_let_in: false,
    },
    Case {
        name: "by a delegate",
        peer: ON,
        says: |w| {
            let delegate = w.middle.issue("delegate", Use::Responses, None, false);
            w.responder.says(move |request| {
                Some(response(request, answer(State::Good, -10, None), &delegate.key, &[&delegate.der]))
            });
        },
        is_let_in: true,
    },
    Case {
        name: "by somebody who was not made a delegate",
        peer: ON,
        says: |w| {
            let server = w.middle.issue("no delegate", Use::Server, None, false);
            w.responder.says(move |request| {
                Some(response(request, answer(State::Good, -10, None), &server.key, &[&server.der]))
            });
        },
        is_let_in: false,
    },
    Case {
        name: "revoked, and nobody is asked",
        peer: "{ verify: false }",
        says: |w| w.says(State::Revoked, -10, Some(100)),
        is_let_in: true,
    },
];

#[test]
fn what_the_authority_says_decides() {
    for program in programs() {
        for Case { name, peer, says, is_let_in } in CASES {
            let world = World::new();
            says(&world);
            let process = world.start(&program, peer);
            let entered = world.enter(&process);
            assert_eq!(entered.is_ok(), *is_let_in, "{program:?} {name}: {:?}", entered.err());
            if !is_let_in {
                process.wait_for("TLS handshake error: client not OCSP valid");
            }
        }
    }
}

/// The original does not look at which certificate a response is about.
#[test]
fn a_response_about_another_client_is_none() {
    let world = World::new();
    let (middle, other) = (world.middle.clone(), world.other.der.clone());
    world.responder.says(move |_| {
        let certificate = Certificate::from_der(&other).unwrap();
        let about_other = request(&certificate, Certificate::from_der(&middle.der).unwrap().key());
        Some(response(&about_other, answer(State::Good, -10, None), &middle.key, &[]))
    });
    let process = world.start(Path::new(SONATA), ON);
    assert!(world.enter(&process).is_err());
}

#[test]
fn a_certificate_that_names_no_responder_is_taken() {
    for program in programs() {
        let world = World::new();
        let process = world.start(&program, ON);
        let client = world.middle.issue("client", Use::Client, None, false);
        assert!(world.enter_as(&process, &client).is_ok());
        let elsewhere = world.middle.issue("client", Use::Client, Some("ldap://127.0.0.1/"), false);
        assert!(world.enter_as(&process, &elsewhere).is_ok());
    }
}

#[test]
fn nobody_is_asked_about_a_certificate_that_is_trusted_by_itself() {
    for program in programs() {
        let world = World::new();
        let own = authority::self_signed("own", &world.responder.url);
        world.folder.write("root.pem", &format!("{}{}", world.root.pem, own.pem));
        let process = world.start(&program, ON);
        let chain: [&[u8]; 1] = [&own.der];
        let entered = Secure::enter(process.port(), &world.root.der, Some((&chain, &own.key)));
        assert!(entered.is_ok(), "{program:?} {:?}", entered.err());
        assert_eq!(world.responder.asked(), 0);
    }
}

#[test]
fn authorities_between_the_client_and_the_root_are_asked_about_too() {
    for program in programs() {
        let mut world = World::new();
        let middle = Arc::new(world.root.intermediate("middle", Some(&world.responder.url)));
        world.client = middle.issue("client", Use::Client, None, false);
        world.middle = middle;
        for (state, is_let_in) in [(State::Good, true), (State::Revoked, false)] {
            let root = world.root.clone();
            world
                .responder
                .says(move |request| Some(response(request, answer(state, -10, Some(20)), &root.key, &[])));
            // Nothing is kept.
            let process = world.start_with(&program, ON, "ocsp_cache: false");
            assert_eq!(world.enter(&process).is_ok(), is_let_in, "{program:?} {state:?}");
        }
    }
}

#[test]
fn answers_are_remembered_and_counted() {
    for program in programs() {
        let world = World::new();
        world.says(State::Good, -10, Some(100));
        let mut process = world.start(&program, ON);
        let seen = varz(&process);
        assert_eq!(seen["tls_ocsp_peer_verify"], true, "{program:?}");
        assert_eq!(seen["ocsp_peer_cache"], json!({"cache_type": "local"}));
        for _ in 0..3 {
            world.enter(&process).unwrap();
        }
        world.says(State::Revoked, -10, Some(100));
        assert!(world.enter_as(&process, &world.other).is_err());
        world.enter(&process).unwrap();
        let counted = json!({
            "cache_type": "local", "cache_hits": 3, "cache_misses": 2, "cached_responses": 2,
            "cached_good_responses": 1, "cached_revoked_responses": 1,
        });
        assert_eq!(varz(&process)["ocsp_peer_cache"], counted, "{program:?}");
        assert_eq!(world.responder.asked(), 2);

        // The file is there for the next start.
        process.signal("quit");
        process.wait();
        let file: Value = serde_json::from_slice(&std::fs::read(world.cache_file()).unwrap()).unwrap();
        let entries: Vec<&Value> = file.as_object().unwrap().values().collect();
        let subjects: Vec<&str> = entries.iter().map(|entry| entry["subject"].as_str().unwrap()).collect();
        assert!(subjects.contains(&"CN=client,O=Testers"), "{program:?} {subjects:?}");
        world.responder.says(|_| None);
        for reader in programs() {
            // Either program reads what the other has left.
            let process = world.start(&reader, ON);
            world.enter(&process).unwrap();
            assert!(world.enter_as(&process, &world.other).is_err());
            assert_eq!(
                varz(&process)["ocsp_peer_cache"]["cached_responses"],
                2,
                "{reader:?} after {program:?}"
            );
        }
    }
}

#[test]
fn without_a_cache_the_authority_is_asked_each_time() {
    for program in programs() {
        let world = World::new();
        world.says(State::Good, -10, Some(100));
        let process = world.start_with(&program, ON, "ocsp_cache: false");
        world.enter(&process).unwrap();
        world.enter(&process).unwrap();
        assert_eq!(world.responder.asked(), 2);
        assert_eq!(varz(&process).get("ocsp_peer_cache"), None, "{program:?}");
    }
}

/// Somebody who was revoked does not get in by making the authority unreachable, as long as it is remembered.
#[test]
fn a_revocation_can_be_remembered_beyond_its_time() {
    for (program, preserve) in programs().iter().flat_map(|program| [(program, true), (program, false)]) {
        let world = World::new();
        let store = world.folder.at("answers");
        let more =
            format!("ocsp_cache {{ type: local, local_store: {store:?}, preserve_revoked: {preserve} }}");
        let peer = "{ verify: true, allowed_clockskew: 0, allow_when_ca_unreachable: true }";
        world.says(State::Revoked, -10, Some(1));
        let process = world.start_with(program, peer, &more);
        assert!(world.enter(&process).is_err());
        world.responder.says(|_| None);
        eventually("an answer that has run out", PATIENCE, || {
            assert!(world.enter(&process).is_err(), "{program:?}");
            (varz(&process)["ocsp_peer_cache"]["cache_misses"].as_u64() > Some(1)).then_some(())
        });
        assert_eq!(world.enter(&process).is_err(), preserve, "{program:?}");
        assert!(world.enter_as(&process, &world.other).is_ok(), "nothing is remembered of this one");
    }
}

/// A revocation is seen when the answer that is remembered runs out, by those who come then.
#[test]
fn a_client_that_is_revoked_does_not_come_back() {
    for program in programs() {
        let world = World::new();
        world.says(State::Good, -10, Some(2));
        let process = world.start(&program, "{ verify: true, allowed_clockskew: 0 }");
        let mut inside = world.enter(&process).unwrap();
        world.says(State::Revoked, -10, Some(100));
        eventually("a refusal", PATIENCE, || world.enter(&process).err());
        process.reload();
        inside.send("PING\r\n");
        assert_eq!(inside.line(), "PONG", "{program:?}: who is in stays in");
    }
}

#[test]
fn a_reload_turns_the_check_on_and_off() {
    for program in programs() {
        let world = World::new();
        world.says(State::Revoked, -10, Some(100));
        let process = world.start(&program, "false");
        world.enter(&process).unwrap();
        assert_eq!(varz(&process).get("tls_ocsp_peer_verify"), None);
        world.write_config(ON, "");
        process.reload();
        assert!(world.enter(&process).is_err());
        assert_eq!(varz(&process)["tls_ocsp_peer_verify"], true, "{program:?}");
        world.write_config("false", "");
        process.reload();
        world.enter(&process).unwrap();
    }
}

#[test]
fn the_system_account_hears_who_is_sent_away_and_why() {
    type Says = Box<dyn Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync>;
    let mut heard: Vec<Vec<Value>> = Vec::new();
    let world = World::new();
    let cases: [(&str, Says); 4] = [
        ("Invalid OCSP response status: revoked", {
            let middle = world.middle.clone();
            Box::new(move |request| {
                Some(response(request, answer(State::Revoked, -10, Some(100)), &middle.key, &[]))
            })
        }),
        ("Failed OCSP response fetch", Box::new(|_| None)),
        ("Failed OCSP response parse", Box::new(|_| Some(b"garbage".to_vec()))),
        ("OCSP response not in effectivity window", {
            let middle = world.middle.clone();
            Box::new(move |request| {
                Some(response(request, answer(State::Good, -100, Some(-60)), &middle.key, &[]))
            })
        }),
    ];
    let cases = Arc::new(cases);
    let accounts = "accounts { $SYS { users: [ { user: s, password: s } ] }, A { users: [ { user: a, password: a } ] } }\n\
                    no_auth_user: a\nocsp_cache: false";
    for program in programs() {
        let mut events = Vec::new();
        for number in 0..cases.len() {
            let process = world.start_with(&program, ON, accounts);
            let watcher = world.root.issue("watcher", Use::Client, None, false);
            let chain: [&[u8]; 1] = [&watcher.der];
            let identity = Some((&chain[..], &watcher.key));
            let connect = "{\"verbose\":false,\"user\":\"s\",\"pass\":\"s\"}";
            let version = [&rustls::version::TLS13];
            let system = Secure::enter_with(process.port(), &world.root.der, identity, &version, connect);
            let mut system = system.unwrap();
            system.send("SUB $SYS.SERVER.*.OCSP.PEER.> 1\r\nPING\r\n");
            assert_eq!(system.line(), "PONG");
            let of = cases.clone();
            world.responder.says(move |request| (of[number].1)(request));
            assert!(world.enter(&process).is_err());
            for kind in ["LINK.INVALID", "CONN.REJECT"] {
                let line = system.line();
                let subject = line.split(' ').nth(1).unwrap().to_owned();
                assert!(subject.ends_with(kind), "{program:?} {line}");
                let mut event: Value = serde_json::from_str(&system.line()).unwrap();
                let fields = event.as_object_mut().unwrap();
                let id = fields.remove("server").unwrap()["id"].clone();
                assert_eq!(subject, format!("$SYS.SERVER.{}.OCSP.PEER.{kind}", id.as_str().unwrap()));
                assert!(fields.remove("id").is_some() && fields.remove("timestamp").is_some());
                events.push(event);
            }
            assert_eq!(events[2 * number]["reason"], cases[number].0);
        }
        assert_eq!(events[0]["link"]["subject"], "CN=client,O=Testers");
        assert_eq!(events[0]["peer"]["issuer"], "CN=middle");
        assert_eq!(events[1]["kind"], "Client");
        assert_eq!(events[1]["reason"], "client not OCSP valid");
        heard.push(events);
    }
    assert!(heard.windows(2).all(|pair| pair[0] == pair[1]), "{heard:#?}");
}

/// Whoever looks at the server over TLS is checked like its clients.
#[test]
fn monitoring_over_tls_asks_about_certificates_too() {
    for program in programs() {
        let world = World::new();
        world.says(State::Good, -10, Some(100));
        let conf = world.write_config(ON, "");
        let text = std::fs::read_to_string(&conf).unwrap().replace("\nhttp:", "\nhttps:");
        std::fs::write(&conf, text).unwrap();
        let process = Process::start(&program, &["-D", "-c", conf.to_str().unwrap()]);
        let port =
            process.wait_for("Starting https monitor on ").rsplit(':').next().unwrap().parse().unwrap();
        process.port();
        let get = |who: Option<&Issued>| {
            let chain = who.map(|who| [&who.der[..], &world.middle.der[..]]);
            let identity = who.zip(chain.as_ref()).map(|(who, chain)| (&chain[..], &who.key));
            https_get(port, &world.root.der, identity, "/healthz")
        };
        assert!(get(Some(&world.client)).is_ok(), "{program:?}");
        assert!(get(None).is_err(), "{program:?}");
        world.says(State::Revoked, -10, Some(100));
        assert!(get(Some(&world.other)).is_err(), "{program:?}");
    }
}

#[test]
fn it_takes_certificates_of_clients_to_check_them() {
    for program in programs() {
        let world = World::new();
        let conf = world.write_config(ON, "");
        let text = std::fs::read_to_string(&conf).unwrap().replace("verify: true, timeout", "timeout");
        std::fs::write(&conf, text).unwrap();
        let mut process = Process::start(&program, &["-c", conf.to_str().unwrap()]);
        assert_eq!(process.wait().code(), Some(1));
        let lines = process.lines().join("\n");
        assert!(lines.contains("requires TLS verify (mTLS) to be enabled"), "{program:?} {lines}");
    }
}

/// A question names the certificate by the sums of its issuer and by its number.
#[test]
fn the_question_is_about_the_client() {
    for program in programs() {
        let world = World::new();
        let certificate = Certificate::from_der(&world.client.der).unwrap();
        let expected = request(&certificate, Certificate::from_der(&world.middle.der).unwrap().key());
        let middle = world.middle.clone();
        world.responder.says(move |request| {
            assert_eq!(asked(request), asked(&expected));
            Some(response(request, answer(State::Good, -10, None), &middle.key, &[]))
        });
        let process = world.start(&program, ON);
        assert!(world.enter(&process).is_ok(), "{program:?}");
    }
}
