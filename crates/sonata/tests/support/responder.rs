//! An authority's answering machine, that says what it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use data_encoding::BASE64;

/// From a request to the body of an answer; none: it hangs up.
type Says = Box<dyn FnMut(&[u8]) -> Option<Vec<u8>> + Send>;

pub(crate) struct Responder {
    pub(crate) url: String,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicUsize>,
}

impl Responder {
    /// Hangs up on everybody until it is told otherwise.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let says: Arc<Mutex<Says>> = Arc::new(Mutex::new(Box::new(|_| None)));
        let asked = Arc::new(AtomicUsize::new(0));
        let (of, count) = (says.clone(), asked.clone());
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // Who has hung up meanwhile needs no answer.
                let _ = answer(stream.unwrap(), &of, &count);
            }
        });
        Self { url, says, asked }
    }

    pub(crate) fn says(&self, says: impl FnMut(&[u8]) -> Option<Vec<u8>> + Send + 'static) {
        *self.says.lock().unwrap() = Box::new(says);
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn answer(stream: TcpStream, says: &Mutex<Says>, asked: &AtomicUsize) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let is_post = line.starts_with("POST ");
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let request = if is_post {
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        body
    } else {
        let text = path.trim_start_matches('/').replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
        BASE64.decode(text.as_bytes()).unwrap()
    };
    asked.fetch_add(1, Ordering::Relaxed);
    let Some(body) = (says.lock().unwrap())(&request) else { return Ok(()) };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let stream = reader.get_mut();
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body)
}
