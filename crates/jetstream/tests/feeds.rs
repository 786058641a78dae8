//! Streams that are fed by streams elsewhere. The test is the other side: it sees what is asked, and answers and delivers as
//! an origin would.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use sonata_jetstream::header;
use sonata_jetstream::stream::Heard;
use world::{Message, World};

const SECOND: i64 = 1_000_000_000;

const SOURCED: &str = r#"{"name":"S","sources":[{"name":"O","external":{"api":"J.API","deliver":"D"}}]}"#;
const MIRRORED: &str = r#"{"name":"M","mirror":{"name":"O","external":{"api":"J.API","deliver":"D"}}}"#;

/// A stream and what it listens on.
struct Fed {
    world: World,
    ears: Vec<(u64, String)>,
}

impl Fed {
    fn new(config: &str) -> Self {
        let mut fed = Self { world: World::new(config), ears: Vec::new() };
        fed.go_on();
        fed
    }

    /// What is published is taken away; what is wished to be listened to is.
    fn go_on(&mut self) {
        loop {
            self.world.settle();
            let Some(ears) = self.world.machine.take_ears() else { return };
            self.ears = ears.list.into_iter().map(|ear| (ear.token, ear.subject)).collect();
            self.world.machine.on_listening(ears.number);
        }
    }

    fn wait(&mut self, nanos: i64) {
        self.world.wait(nanos);
        self.go_on();
    }

    /// The last request that was sent since this was last asked, with its subject before it.
    fn asked(&mut self) -> Option<Message> {
        self.go_on();
        let said = self.world.take_said();
        said.into_iter().rfind(|message| message.subject.starts_with("J.API.CONSUMER."))
    }

    fn hear(&mut self, subject: &str, shown: &str, reply: &str, headers: &[u8], payload: &str) {
        let (token, _) = self.ears.iter().find(|(_, listened)| listened == subject).unwrap();
        let heard = Heard {
            subject: shown.as_bytes(),
            reply: reply.as_bytes(),
            headers,
            payload: payload.as_bytes(),
        };
        self.world.machine.hear(*token, heard, self.world.now, &mut self.world.said);
    }

    /// Answers the last request; the consumer is called `C` and stands before its first message.
    fn answer(&mut self, request: &Message, identity: &str, stream_seq: u64) {
        let deliver = deliver_subject(request);
        let answer = format!(
            r#"{{"type":"x","stream_name":"O","name":"C","config":{{"deliver_subject":"{deliver}","ack_policy":"none","direct":true}},"delivered":{{"consumer_seq":0,"stream_seq":{stream_seq}}}}}"#
        );
        let mut headers = Vec::new();
        header::append(&mut headers, "Nats-Stream-Identity", identity.as_bytes());
        self.hear(&request.reply, &request.reply, "", &headers, &answer);
        self.go_on();
    }

    fn refuse(&mut self, request: &Message, err_code: u16) {
        let answer = format!(r#"{{"error":{{"code":400,"err_code":{err_code},"description":"no"}}}}"#);
        self.hear(&request.reply, &request.reply, "", b"", &answer);
        self.go_on();
    }

    /// The consumer delivers its `number`th message, which is the stream's `sequence`th.
    fn deliver(&mut self, number: u64, sequence: u64) {
        let subject = self.ears[0].1.clone();
        let reply = format!("$JS.ACK.O.C.1.{sequence}.{number}.1767225600000000000.0");
        self.hear(&subject, &format!("a.{sequence}"), &reply, b"", "x");
    }

    fn control(&mut self, reply: &str, headers: &str) {
        let subject = self.ears[0].1.clone();
        self.hear(&subject, &subject, reply, format!("NATS/1.0 100 X\r\n{headers}\r\n").as_bytes(), "");
    }

    /// Subjects of what is stored.
    fn stored(&mut self) -> Vec<String> {
        let messages = self.world.messages();
        messages.iter().map(|message| String::from_utf8_lossy(&message.subject).into_owned()).collect()
    }

    fn restart(&mut self) {
        self.world.restart(self.world.committed());
        self.go_on();
    }
}

/// Where the request wants to be delivered to.
fn deliver_subject(request: &Message) -> String {
    field(request, "deliver_subject").trim_matches('"').to_owned()
}

fn field(request: &Message, name: &str) -> String {
    let body: serde_json::Value = serde_json::from_str(&request.payload).unwrap();
    body["config"][name].to_string()
}

fn said_on(world: &mut World, subject: &str) -> Vec<String> {
    let said = world.take_said().into_iter().filter(|message| message.subject == subject);
    said.map(|message| message.headers.replace("\r\n", "|")).collect()
}

#[test]
fn it_goes_on_where_it_was_after_a_restart() {
    let mut fed = Fed::new(SOURCED);
    let asked = fed.asked().unwrap();
    assert_eq!((&*asked.subject, &*field(&asked, "opt_start_seq")), ("J.API.CONSUMER.CREATE.O", "null"));
    fed.answer(&asked, "one", 0);
    fed.deliver(1, 4);
    fed.deliver(2, 7);
    fed.world.commit_all();
    fed.restart();
    let asked = fed.asked().unwrap();
    assert_eq!(field(&asked, "opt_start_seq"), "8");
    assert!(asked.headers.contains("Nats-Stream-Identity: one\r\n"), "{}", asked.headers);
    // From a checkpoint, too.
    fed.world.checkpoint();
    fed.restart();
    assert_eq!(field(&fed.asked().unwrap(), "opt_start_seq"), "8");
    assert_eq!(fed.stored(), ["a.4", "a.7"]);
}

#[test]
fn what_was_not_committed_is_asked_for_again() {
    let mut fed = Fed::new(SOURCED);
    let asked = fed.asked().unwrap();
    fed.answer(&asked, "one", 0);
    fed.deliver(1, 1);
    fed.world.commit_all();
    fed.deliver(2, 2);
    fed.world.fail();
    fed.wait(60 * SECOND);
    assert_eq!(fed.asked(), None, "nothing is asked for that cannot be stored");
    fed.world.resume();
    let asked = fed.asked().unwrap();
    assert_eq!(field(&asked, "opt_start_seq"), "2");
    fed.answer(&asked, "one", 1);
    fed.deliver(1, 2);
    fed.world.commit_all();
    assert_eq!(fed.stored(), ["a.1", "a.2"]);
}

#[test]
fn a_gap_is_asked_for_again() {
    let mut fed = Fed::new(SOURCED);
    let asked = fed.asked().unwrap();
    fed.answer(&asked, "one", 0);
    fed.deliver(1, 1);
    fed.deliver(3, 3);
    assert!(fed.ears.is_empty() || fed.asked().is_none());
    fed.wait(3 * SECOND);
    let asked = fed.asked().unwrap();
    assert_eq!(field(&asked, "opt_start_seq"), "2");
    fed.answer(&asked, "one", 1);
    fed.deliver(1, 2);
    fed.deliver(2, 3);
    fed.world.commit_all();
    assert_eq!(fed.stored(), ["a.1", "a.2", "a.3"]);
}

#[test]
fn a_heartbeat_tells_of_a_lost_message() {
    let mut fed = Fed::new(SOURCED);
    let asked = fed.asked().unwrap();
    fed.answer(&asked, "one", 0);
    fed.deliver(1, 1);
    fed.control("", "Nats-Last-Consumer: 1\r\nNats-Last-Stream: 1\r\n");
    fed.wait(3 * SECOND);
    assert_eq!(fed.asked(), None);
    fed.control("", "Nats-Last-Consumer: 2\r\nNats-Last-Stream: 2\r\n");
    fed.wait(3 * SECOND);
    assert_eq!(field(&fed.asked().unwrap(), "opt_start_seq"), "2");
}

#[test]
fn after_silence_it_asks_again_and_less_and_less_often_when_nobody_answers() {
    let mut fed = Fed::new(SOURCED);
    let asked = fed.asked().unwrap();
    fed.answer(&asked, "one", 0);
    for _ in 0..9 {
        fed.wait(SECOND);
        fed.control("", "");
    }
    assert_eq!(fed.asked(), None);
    fed.wait(11 * SECOND);
    assert!(fed.asked().is_some());
    let mut times = Vec::new();
    for second in 0..400 {
        fed.wait(SECOND);
        if fed.asked().is_some() {
            times.push(second);
        }
    }
    let gaps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.windows(2).all(|pair| pair[0] <= pair[1] + 1), "{gaps:?}");
    assert!(gaps.iter().all(|gap| (10..=62).contains(gap)), "{gaps:?}");
}

#[test]
fn flow_control_is_answered_when_what_came_before_is_durable() {
    let mut fed = Fed::new(SOURCED);
    let asked = fed.asked().unwrap();
    fed.answer(&asked, "one", 0);
    fed.deliver(1, 5);
    fed.control("$JS.FC.O.C.x", "");
    fed.deliver(2, 6);
    assert_eq!(said_on(&mut fed.world, "$JS.FC.O.C.x"), [""; 0]);
    // A heartbeat that reminds of the question changes nothing of that.
    fed.control("", "Nats-Last-Consumer: 2\r\nNats-Consumer-Stalled: $JS.FC.O.C.x\r\n");
    assert_eq!(said_on(&mut fed.world, "$JS.FC.O.C.x"), [""; 0]);
    fed.world.commit(1);
    let answer = "NATS/1.0|Nats-Last-Consumer: 1|Nats-Last-Stream: 5||";
    assert_eq!(said_on(&mut fed.world, "$JS.FC.O.C.x"), [answer]);
    fed.world.commit_all();
    fed.control("$JS.FC.O.C.y", "");
    let answer = "NATS/1.0|Nats-Last-Consumer: 2|Nats-Last-Stream: 6||";
    assert_eq!(said_on(&mut fed.world, "$JS.FC.O.C.y"), [answer]);
    // An answer that was lost is given again.
    fed.control("", "Nats-Last-Consumer: 2\r\nNats-Consumer-Stalled: $JS.FC.O.C.y\r\n");
    assert_eq!(said_on(&mut fed.world, "$JS.FC.O.C.y"), [""]);
}

#[test]
fn an_origin_that_was_made_anew_is_taken_from_its_beginning() {
    let mut fed = Fed::new(SOURCED);
    let asked = fed.asked().unwrap();
    fed.answer(&asked, "one", 0);
    fed.deliver(1, 8);
    fed.world.commit_all();
    fed.wait(11 * SECOND);
    let asked = fed.asked().unwrap();
    fed.refuse(&asked, 10225);
    let asked = fed.asked().unwrap();
    assert_eq!(field(&asked, "deliver_policy"), "\"all\"");
    assert!(asked.headers.contains("Nats-Stream-Identity: \r\n"), "{}", asked.headers);
    fed.answer(&asked, "two", 0);
    fed.deliver(1, 1);
    fed.world.commit_all();
    fed.restart();
    let asked = fed.asked().unwrap();
    assert_eq!(field(&asked, "opt_start_seq"), "2");
    assert!(asked.headers.contains("Nats-Stream-Identity: two\r\n"), "{}", asked.headers);
    assert_eq!(fed.stored(), ["a.8", "a.1"]);
}

#[test]
fn servers_of_older_releases_are_asked_for_less() {
    let mut fed = Fed::new(SOURCED);
    let mut said = Vec::new();
    for _ in 0..3 {
        let asked = fed.asked().unwrap();
        let named = field(&asked, "name") == "\"JS_SRC_3sJSmxyu\"";
        said.push((asked.headers.replace("\r\n", "|"), field(&asked, "sourcing"), named));
        fed.refuse(&asked, 10185);
    }
    assert_eq!(
        said.iter().map(|(headers, sourcing, _)| (&**headers, &**sourcing)).collect::<Vec<_>>(),
        [
            ("NATS/1.0|Nats-Required-Api-Level: 5|Nats-Stream-Identity: ||", "true"),
            ("NATS/1.0|Nats-Required-Api-Level: 4||", "true"),
            ("", "null"),
        ]
    );
    assert!(!said[2].2, "a name of its own");
    fed.wait(SECOND);
    assert_eq!(fed.asked(), None, "after that it rests");
}

#[test]
fn a_mirror_counts_what_was_gone_before() {
    let mut fed = Fed::new(MIRRORED);
    let asked = fed.asked().unwrap();
    fed.answer(&asked, "", 99);
    assert_eq!(fed.world.machine.store().state().last_sequence, 99);
    fed.deliver(1, 100);
    // The origin has deleted what was between.
    fed.deliver(2, 105);
    fed.world.commit_all();
    let state = fed.world.machine.store().state();
    assert_eq!((state.first_sequence, state.last_sequence, state.messages), (100, 105, 2));
    fed.restart();
    let asked = fed.asked().unwrap();
    assert_eq!(field(&asked, "opt_start_seq"), "106");
}

#[test]
fn names_that_are_none_are_not_asked_for() {
    for name in ["a b", "x\\r\\nPUB y 0\\r\\n", "*", ">"] {
        let config = MIRRORED.replace("\"name\":\"O\"", &format!("\"name\":\"{name}\""));
        let mut fed = Fed::new(&config);
        assert_eq!(fed.asked(), None, "{name}");
        fed.wait(5 * SECOND);
        assert_eq!(fed.asked(), None, "{name}");
    }
}

#[test]
fn answers_and_deliveries_of_strangers_do_no_harm() {
    let mut fed = Fed::new(SOURCED);
    let asked = fed.asked().unwrap();
    for payload in ["", "{", "[]", "null", "{}", r#"{"config":{"deliver_subject":"a b"}}"#, "{\"name\":5}"] {
        let Some((_, subject)) = fed.ears.first().cloned() else { break };
        fed.hear(&subject, &subject, "", b"NATS/1.0 503\r\n\r\n", payload);
        fed.wait(70 * SECOND);
    }
    assert_ne!(asked.reply, "");
    for (stands_at, reply) in [
        (0, ""),
        (0, "x"),
        (0, "$JS.ACK.O.X.1.1.1.1.0"),
        (0, "$JS.ACK.O.C.2.1.1.1.0"),
        (0, "$JS.ACK.O.C.1.x.1.1.0"),
        (u64::MAX, "$JS.ACK.O.C.1.1.1.1.0"),
    ] {
        let mut fed = Fed::new(SOURCED);
        let asked = fed.asked().unwrap();
        fed.answer(&asked, "one", stands_at);
        let (_, subject) = fed.ears[0].clone();
        fed.hear(&subject, "a", reply, b"", "x");
        fed.world.commit_all();
        assert_eq!(fed.stored(), [""; 0], "{reply}");
    }
}

/// A source read in the same account took the former origin's place for its own after a restart, and so missed the first
/// messages of one that was deleted and made anew.
#[test]
fn an_origin_read_here_that_was_made_anew_is_taken_from_its_beginning_after_a_restart() {
    let mut target = World::new(r#"{"name":"T","sources":[{"name":"O"}]}"#);
    let take = |target: &mut World, origin: &mut World| {
        for want in target.machine.wants() {
            let portion = origin.machine.read_for(&want).unwrap();
            target.machine.take(&want, portion, target.now, &mut target.said);
        }
        target.commit_all();
    };
    let mut old = World::new(r#"{"name":"O","subjects":["o"]}"#);
    for payload in ["1", "2", "3"] {
        old.publish("o", "", &[], payload);
    }
    old.commit_all();
    take(&mut target, &mut old);
    target.checkpoint();
    let mut new = World::created_at(r#"{"name":"O","subjects":["o"]}"#, world::START + 1);
    new.publish("o", "", &[], "4");
    new.commit_all();
    take(&mut target, &mut new);
    target.checkpoint();
    target.restart(target.committed());
    new.publish("o", "", &[], "5");
    new.commit_all();
    take(&mut target, &mut new);
    let payloads: Vec<String> = target
        .messages()
        .iter()
        .map(|message| String::from_utf8_lossy(&message.payload).into_owned())
        .collect();
    assert_eq!(payloads, ["1", "2", "3", "4", "5"]);
}
