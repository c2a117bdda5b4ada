//! What is sent, and what each answer comes to.

use std::sync::{Arc, Mutex};

use tidegate_runtime::ports::Class;
use tidegate_runtime::sink::SinkError;
use tokio::net::TcpListener;

use crate::losing::Losing;
use crate::receiver::{Answer, Receiver, Rules, poison, says};
use crate::{Owner, chain, open, partition, record, token};

/// A receiver that answers every write with this.
async fn answering(status: u16, headers: &[(&'static str, &str)], body: &str) -> Receiver {
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let body = body.to_owned();
    Receiver::scripted(Rules::default(), move |seen| {
        let answer = || Answer::Says(status, headers.clone(), body.clone());
        (!seen.is_acquire()).then(answer)
    })
    .await
}

#[tokio::test]
async fn a_batch_is_one_request_as_documented() {
    let receiver = Receiver::start(Rules::default()).await;
    let owner = Owner::of(&format!("{}?key=k#timeout=3s", receiver.url)).await;
    owner.writes(1200, &[record(1201, "a"), record(1203, "b")], 1450).await.unwrap();
    let [acquired, written] = &receiver.seen()[..] else { panic!("expected two requests") };
    for seen in [acquired, written] {
        assert_eq!(seen.path, "/lines?key=k");
        for (name, value) in [
            ("content-type", "application/x-ndjson"),
            ("tidegate-topic", "orders"),
            ("tidegate-topic-id", "CQkJCQkJCQkJCQkJCQkJCQ"),
            ("tidegate-partition", "7"),
            ("tidegate-generation", "3"),
            ("tidegate-epoch", "5"),
            ("content-length", &seen.body.len().to_string()),
        ] {
            assert_eq!(seen.header(name), value, "{name}");
        }
    }
    assert_eq!((acquired.header("tidegate-action"), acquired.body.len()), ("acquire", 0));
    for (name, value) in [
        ("tidegate-action", "write"),
        ("tidegate-expected", "1200"),
        ("tidegate-next", "1450"),
        ("tidegate-records", "2"),
        ("idempotency-key", "CQkJCQkJCQkJCQkJCQkJCQ-7-1200-1450"),
    ] {
        assert_eq!(written.header(name), value, "{name}");
    }
    let line = |offset, value| {
        format!(
            "{{\"topic\":\"orders\",\"partition\":7,\"offset\":{offset},\"timestamp\":5,\
             \"key\":null,\"value\":\"{value}\"}}\n"
        )
    };
    assert_eq!(written.body, line(1201, "a") + &line(1203, "b"));
}

#[tokio::test]
async fn a_later_owner_is_told_where_the_receiver_stands_and_shuts_the_earlier_out() {
    let receiver = Receiver::start(Rules::default()).await;
    let owner = Owner::of(&receiver.url).await;
    owner.writes(0, &[record(0, "a")], 4).await.unwrap();
    let next = Owner(open(&receiver.url).await);
    assert_eq!(next.acquires(6).await.unwrap(), Some(4));
    let (class, text) = owner.fails().await;
    assert_eq!(class, Class::Fenced);
    assert!(text.contains("409 Conflict: a later owner has written"), "{text}");
    assert_eq!(owner.acquires(5).await.unwrap_err().class(), Class::Fenced);
}

#[tokio::test]
async fn each_answer_has_its_class_and_says_what_to_do() {
    for (status, class, words) in [
        (409, Class::Fenced, "409 Conflict: why"),
        (412, Class::Fenced, "412 Precondition Failed: why"),
        (500, Class::Transient, "500 Internal Server Error: why"),
        (429, Class::Transient, "429 Too Many Requests: why"),
        (503, Class::Transient, "503 Service Unavailable: why"),
        (400, Class::Permanent, "400 Bad Request: why; see the receiver's log"),
        (401, Class::Permanent, "check bearerFile or bearerEnv"),
        (403, Class::Permanent, "check bearerFile or bearerEnv"),
        (404, Class::Permanent, "check the path of the URL"),
        (405, Class::Permanent, "check the path of the URL"),
        (422, Class::Permanent, "a body with the rejected offsets"),
    ] {
        let receiver = answering(status, &[], "why\n").await;
        let (found, text) = Owner::of(&format!("{}?key=hunter2", receiver.url)).await.fails().await;
        assert_eq!(found, class, "{status}: {text}");
        assert!(text.contains(words) && text.contains(&receiver.url), "{status}: {text}");
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(receiver.writes().len(), 1, "{status} is not asked again");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let receiver = answering(308, &[("location", "/elsewhere?key=hunter2")], "").await;
    let (class, text) = Owner::of(&receiver.url).await.fails().await;
    assert_eq!(class, Class::Permanent);
    assert!(text.contains("it points to /elsewhere?…; redirects are not followed"), "{text}");
    assert_eq!(receiver.writes().len(), 1);
}

#[tokio::test]
async fn a_receiver_that_knows_no_acquire_has_no_position() {
    for status in [404, 405, 501] {
        let receiver = Receiver::scripted(Rules::default(), move |seen| {
            seen.is_acquire().then(|| says(status))
        })
        .await;
        let owner = Owner(open(&receiver.url).await);
        assert_eq!(owner.acquires(5).await.unwrap(), None);
        owner.writes(0, &[record(0, "a")], 1).await.unwrap();
    }
}

#[tokio::test]
async fn a_busy_receiver_is_asked_again_when_it_said() {
    let mut asked = 0;
    let receiver = Receiver::scripted(Rules::default(), move |seen| {
        asked += usize::from(!seen.is_acquire());
        let after = vec![("retry-after", "1".to_owned())];
        (asked == 1 && !seen.is_acquire()).then(|| Answer::Says(429, after, String::new()))
    })
    .await;
    let owner = Owner::of(&format!("{}#timeout=60s", receiver.url)).await;
    owner.writes(0, &[record(0, "a")], 1).await.unwrap();
    let keys: Vec<_> =
        receiver.writes().iter().map(|seen| seen.header("idempotency-key").to_owned()).collect();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1]);
}

#[tokio::test]
async fn a_receiver_that_wants_to_be_left_alone_for_long_is_not_asked_again() {
    let receiver = answering(503, &[("retry-after", "500")], "").await;
    let owner = Owner::of(&receiver.url).await;
    for _ in 0..3 {
        let (class, text) = owner.fails().await;
        assert_eq!(class, Class::Transient);
        assert!(text.contains("wants to be left alone for"), "{text}");
    }
    assert_eq!(receiver.writes().len(), 1);
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_cut_and_what_was_learned_is_kept() {
    let receiver = Receiver::start(Rules { limit: 1000, ..Rules::default() }).await;
    let owner = Owner::of(&receiver.url).await;
    let records = |from: u64| -> Vec<_> { (from..from + 20).map(|at| record(at, "abc")).collect() };
    owner.writes(0, &records(0), 20).await.unwrap();
    let before = receiver.writes().len();
    owner.writes(20, &records(20), 50).await.unwrap();
    assert_eq!(receiver.offsets(&partition()), (0..40).collect::<Vec<u64>>());
    let refused = |seen: &&crate::receiver::Seen| seen.body.len() > 1000;
    assert_eq!(receiver.writes()[before..].iter().filter(refused).count(), 0, "it has learned");
    assert_eq!(receiver.writes().last().unwrap().header("tidegate-next"), "50");
    assert_eq!(owner.acquires(5).await.unwrap(), Some(50));
}

fn rejected(error: SinkError) -> Vec<u64> {
    match error {
        SinkError::Rejected { records, .. } => records.iter().map(|record| record.offset).collect(),
        other => panic!("expected a rejection, found {}", chain(&other)),
    }
}

#[tokio::test]
async fn a_record_that_is_too_large_by_itself_is_rejected() {
    let receiver = Receiver::start(Rules { limit: 1000, ..Rules::default() }).await;
    let owner = Owner::of(&receiver.url).await;
    owner.writes(0, &[record(0, "a")], 1).await.unwrap();
    let large = record(1, &"x".repeat(2000));
    let error = owner.writes(1, &[large], 2).await.unwrap_err();
    assert!(error.to_string().contains("too large for the receiver"), "{error}");
    assert_eq!(rejected(error), [1]);
    owner.writes(1, &[], 2).await.unwrap();
}

#[tokio::test]
async fn records_that_were_taken_before_are_not_rejected_for_a_limit_that_passes() {
    let mut writes = 0;
    let receiver = Receiver::scripted(Rules::default(), move |seen| {
        writes += usize::from(!seen.is_acquire());
        (!seen.is_acquire() && (2..=4).contains(&writes)).then(|| says(413))
    })
    .await;
    let owner = Owner::of(&receiver.url).await;
    let record = |at| record(at, "abc");
    owner.writes(0, &[record(0)], 1).await.unwrap();
    let error = owner.writes(1, &[record(1), record(2)], 3).await.unwrap_err();
    assert_eq!(error.class(), Class::Permanent);
    assert!(chain(&error).contains("raise its limit of a body"), "{}", chain(&error));
    for at in 3..100 {
        let begin = if at == 3 { 1 } else { at };
        let records: Vec<_> = (begin..=at).map(record).collect();
        // The one answer that is left of the limit.
        if owner.writes(begin, &records, at + 1).await.is_err() {
            owner.writes(begin, &records, at + 1).await.unwrap();
        }
    }
    let asked = receiver.writes().len();
    owner.writes(100, &[record(100), record(101)], 102).await.unwrap();
    assert_eq!(receiver.writes().len(), asked + 1, "the limit is forgotten");
}

/// Each rejection follows a durable part, and a receiver without a position is sent that part again: a sink that knew one
/// rejection at a time would find the two in turns for ever.
#[tokio::test]
async fn two_records_that_are_too_large_get_past_each_other() {
    let receiver = Receiver::start(Rules { compares: false, limit: 1000 }).await;
    let owner = Owner::of(&receiver.url).await;
    let large = "x".repeat(2000);
    let whole: Vec<_> =
        (0..20).map(|at| record(at, if at == 9 || at == 17 { &large } else { "abc" })).collect();
    let (mut aside, mut attempts) = (Vec::new(), 0);
    'attempt: loop {
        attempts += 1;
        assert!(attempts < 10, "it never ends");
        let mut records = whole.clone();
        aside.clear();
        loop {
            match owner.writes(0, &records, 20).await {
                Ok(()) => break 'attempt,
                Err(SinkError::Unavailable { .. }) => continue 'attempt,
                Err(error) => aside.extend(rejected(error)),
            }
            records.retain(|record| !aside.contains(&record.offset));
        }
    }
    assert_eq!(aside, [9, 17]);
    assert!(receiver.writes().len() < 60, "{} requests", receiver.writes().len());
    owner.writes(0, &[record(9, "abc")], 20).await.unwrap();
}

#[tokio::test]
async fn a_rejection_after_a_durable_part_is_told_before_the_next_write() {
    let receiver = Receiver::start(Rules { limit: 1000, ..Rules::default() }).await;
    let owner = Owner::of(&receiver.url).await;
    let records: Vec<_> =
        (0..20).map(|at| if at == 17 { poison(at) } else { record(at, "abc") }).collect();
    let error = owner.writes(0, &records, 20).await.unwrap_err();
    assert_eq!(error.class(), Class::Transient, "{}", chain(&error));
    let at = owner.acquires(5).await.unwrap().unwrap();
    assert!(at > 0 && at <= 17, "a part is durable");
    let asked = receiver.writes().len();
    let begin = usize::try_from(at).unwrap();
    assert_eq!(rejected(owner.writes(at, &records[begin..], 20).await.unwrap_err()), [17]);
    assert_eq!(receiver.writes().len(), asked, "nothing was sent");
    let without: Vec<_> =
        records[begin..].iter().filter(|record| record.offset != 17).cloned().collect();
    owner.writes(at, &without, 20).await.unwrap();
    let all: Vec<u64> = (0..20).filter(|at| *at != 17).collect();
    assert_eq!(receiver.offsets(&partition()), all);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_key() {
    let receiver = Receiver::start(Rules { compares: false, ..Rules::default() }).await;
    let losing = Losing::before(&receiver.url).await;
    let owner = Owner::of(&losing.url).await;
    owner.writes(0, &[record(0, "a")], 1).await.unwrap();
    let writes = receiver.writes();
    assert_eq!((writes.len(), losing.lost()), (2, 1));
    assert_eq!(writes[0].header("idempotency-key"), writes[1].header("idempotency-key"));
}

#[tokio::test]
async fn a_repetition_that_is_fenced_leaves_the_outcome_open() {
    let mut asked = 0;
    let receiver = Receiver::scripted(Rules::default(), move |seen| {
        asked += usize::from(!seen.is_acquire());
        (asked > 1).then(|| says(409))
    })
    .await;
    let losing = Losing::before(&receiver.url).await;
    let (class, text) = Owner::of(&losing.url).await.fails().await;
    assert_eq!(class, Class::Transient, "{text}");
    assert!(text.contains("was lost, and the repeated request was answered 409"), "{text}");
}

#[tokio::test]
async fn a_receiver_that_is_slow_or_away_may_work_later() {
    let receiver =
        Receiver::scripted(Rules::default(), |seen| (!seen.is_acquire()).then_some(Answer::Hangs))
            .await;
    let (class, text) = Owner::of(&format!("{}#timeout=200ms", receiver.url)).await.fails().await;
    assert_eq!(class, Class::Transient);
    assert!(text.contains("did not answer within 200ms"), "{text}");

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/lines", nobody.local_addr().unwrap());
    drop(nobody);
    let sink = open(&url).await;
    let error = sink.acquire(&partition(), token(5)).await.unwrap_err();
    assert_eq!(error.class(), Class::Transient);
    assert!(chain(&error).contains(&format!("failed to send to {url}")), "{}", chain(&error));
}

#[tokio::test]
async fn the_bearer_token_is_read_for_each_request_and_never_told() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let receiver = Receiver::scripted(Rules::default(), move |seen| {
        let token = seen.header("authorization").to_owned();
        noted.lock().unwrap().push(token.clone());
        (!seen.is_acquire()).then(|| Answer::Says(401, Vec::new(), format!("bad {token}")))
    })
    .await;
    std::fs::write(file.path(), "first\n").unwrap();
    let owner = Owner::of(&format!("{}#bearerFile={}", receiver.url, file.path().display())).await;
    std::fs::write(file.path(), "hunter2\n").unwrap();
    let (class, text) = owner.fails().await;
    assert_eq!(class, Class::Permanent);
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(*seen.lock().unwrap(), ["Bearer first", "Bearer hunter2"]);
    std::fs::remove_file(file.path()).unwrap();
    let (class, text) = owner.fails().await;
    assert_eq!(class, Class::Permanent);
    assert!(text.contains("failed to read the secret file"), "{text}");
}
