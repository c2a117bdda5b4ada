//! A group whose receiver rejects records: all others arrive, and the rejected ones are dead letters.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::group::{broker, end, log, start, wait_for, write_spec};
use crate::support::{run, stderr};

/// A record by the number of its partition and its offset.
type Place = (u64, u64);

fn is_rejected(offset: u64) -> bool {
    offset % 50 == 7
}

/// A receiver that keeps no positions. Its threads end with the process.
struct Receiver {
    url: String,
    taken: Arc<Mutex<BTreeSet<Place>>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/lines", listener.local_addr().unwrap());
        let taken = Arc::<Mutex<BTreeSet<_>>>::default();
        let shared = Arc::clone(&taken);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, taken) = (stream.unwrap(), Arc::clone(&shared));
                // A consumer that ends hangs up.
                std::thread::spawn(move || drop(serve(stream, &taken)));
            }
        });
        Self { url, taken }
    }
}

fn serve(mut stream: TcpStream, taken: &Mutex<BTreeSet<Place>>) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(text) = line.strip_prefix("content-length: ") {
                length = text.parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let (status, answer) = take(&body, taken);
        let length = answer.len();
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{answer}")?;
    }
}

fn take(body: &[u8], taken: &Mutex<BTreeSet<Place>>) -> (&'static str, String) {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let places: Vec<_> = lines.map(|line| place(&serde_json::from_slice(line).unwrap())).collect();
    let rejected = places.iter().filter(|(_, offset)| is_rejected(*offset));
    let rejected: Vec<_> =
        rejected.map(|(_, offset)| json!({"offset": offset, "reason": "a seven"})).collect();
    if rejected.is_empty() {
        taken.lock().unwrap().extend(places);
        return ("200 OK", String::new());
    }
    ("422 Unprocessable Content", json!({ "rejected": rejected }).to_string())
}

fn place(line: &Value) -> Place {
    (line["partition"].as_u64().unwrap(), line["offset"].as_u64().unwrap())
}

/// All dead letters under a folder.
fn dead_letters(folder: &Path) -> BTreeSet<Place> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(dead_letters(&path));
        } else {
            let letter: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            assert_eq!(letter["reason"], "a seven");
            found.insert(place(&letter["record"]));
        }
    }
    found
}

#[test]
fn rejected_records_are_dead_letters_and_all_others_arrive() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (_broker, bootstrap) = broker();
    let receiver = Receiver::start();
    let workers = format!("workers: {{dataDirectory: '{}'}}", folder.join("data").display());
    let spec = write_spec(folder, &bootstrap, &workers);
    let dead = folder.join("dead");
    let text = std::fs::read_to_string(&spec).unwrap();
    let files = format!("sink: 'file://{}'", folder.join("sink").display());
    let places = format!("sink: '{}', deadLetters: 'file://{}'", receiver.url, dead.display());
    assert!(text.contains(&files));
    std::fs::write(&spec, text.replace(&files, &places)).unwrap();
    let created = run(&["topics", "create", "--spec", &spec]);
    assert_eq!(created.status.code(), Some(0), "{}", stderr(&created));

    let monitor = start(folder, &spec, &["monitor"]);
    let controller = start(folder, &spec, &["controller", "--end-workers"]);
    let ledger = folder.join("acknowledged.json");
    let shape = ["--duration", "3s", "--rate", "500kB/s", "--topics", "1", "--partitions", "2"];
    let load = ["load", "--spec", &spec, "--ledger", ledger.to_str().unwrap()];
    let load = run(&[&load[..], &shape[..]].concat());
    assert_eq!(load.status.code(), Some(0), "{}", stderr(&load));
    let told = wait_for(folder, &spec, "status that shows no lag", |told| {
        let done = |row: &Value| row["state"] == "active" && row["lagRecords"] == 0;
        let rows = told["partitions"].as_array();
        rows.is_some_and(|rows| rows.len() == 2 && rows.iter().all(done))
    });
    assert_eq!(told["alarms"].as_array().map(Vec::len), Some(0), "{told:#?}");
    assert_eq!(end(controller), Some(0), "{}", log(folder, "controller"));
    assert_eq!(end(monitor), Some(0), "{}", log(folder, "monitor"));

    let taken = receiver.taken.lock().unwrap().clone();
    let dead = dead_letters(&dead);
    assert!(dead.len() > 10, "{} dead letters", dead.len());
    assert!(dead.iter().all(|(_, offset)| is_rejected(*offset)));
    assert!(taken.iter().all(|(_, offset)| !is_rejected(*offset)));
    for partition in 0..2 {
        let all = taken.iter().chain(&dead).filter(|(number, _)| *number == partition);
        let all: BTreeSet<_> = all.map(|(_, offset)| *offset).collect();
        let end = all.last().unwrap() + 1;
        assert_eq!(all, (0..end).collect(), "of partition {partition} nothing is missing");
    }
}
