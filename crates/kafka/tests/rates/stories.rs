//! What happens to logs on one broker: retention, compaction, growth, another topic of the same name.

use std::sync::Arc;
use std::time::Duration;

use tidegate_core::rates::{Measurement, Source};
use tidegate_testing::unique_name;

use crate::client;
use crate::judge::Records;
use crate::load::{Load, VALUE_BYTES};
use crate::watch::{Track, Watch, config, create};

/// Each sample with the one before.
fn steps(track: &Track) -> impl Iterator<Item = (&Measurement, &Measurement)> {
    track.windows(2).map(|pair| (&pair[0].1, &pair[1].1))
}

/// How often retention was seen to delete.
fn deletions(track: &Track) -> usize {
    steps(track).filter(|(before, now)| before.sample.log_start < now.sample.log_start).count()
}

/// How often the log was seen to have shrunk.
fn shrinkages(track: &Track) -> usize {
    steps(track).filter(|(before, now)| now.sample.size < before.sample.size).count()
}

/// First more is written in a second than retention deletes at a time, and the log grows at some deletions, by too little.
pub(crate) async fn retention_does_not_show(bootstrap: String) {
    let bootstrap = bootstrap.as_str();
    let (monitor, admin, topic) = (client(bootstrap), client(bootstrap), unique_name("kept"));
    let config = config(bootstrap, &topic);
    create(&admin, &config.control_topics.monitor, 1, &[]).await;
    let settings = [("segment.bytes", "1048576"), ("retention.bytes", "1048576")];
    let id = create(&admin, &topic, 1, &settings).await;
    let mut watch = Watch::start(&monitor, &admin, &config);
    watch.until_measured(id, 1).await;
    let load = Load::start(&admin, &topic, vec![0], 160);
    watch.until("fifth deletion", |seen| deletions(&seen.track(id, 0)) >= 5).await;
    let fast = load.end().await.batch_bytes;
    let deleted = deletions(&watch.published.track(id, 0));
    let load = Load::start(&admin, &topic, vec![0], 20);
    let is_reached = |track: &Track| {
        let last = track.last().map(|(_, measured)| (measured.window, measured.source));
        deletions(track) >= deleted + 2
            && last.is_some_and(|(window, source)| {
                window >= Duration::from_secs(15) && source == Source::LogSize
            })
    };
    watch.until("deletions", |seen| is_reached(&seen.track(id, 0))).await;
    let slow = load.end().await.batch_bytes;
    let track = watch.end().await.track(id, 0);
    let records = Records { count: 1, bytes: (fast / 160, slow.div_ceil(20)), unseen: 0 };
    records.judge("retention", &track);
    for (before, now) in steps(&track) {
        if before.sample.log_start < now.sample.log_start {
            assert_eq!(now.source, Source::HighWatermark, "{before:?} {now:?}");
        }
    }
}

/// The cleaner leaves the last record of each key: a log of a few records after minutes of writing.
pub(crate) async fn compaction_does_not_show(bootstrap: String) {
    let bootstrap = bootstrap.as_str();
    let (monitor, admin, topic) = (client(bootstrap), client(bootstrap), unique_name("compacted"));
    // In a window of 5 s one sample that counts for nothing is a fifth.
    let mut config = config(bootstrap, &topic);
    Arc::get_mut(&mut config).unwrap().monitor.window = Duration::from_secs(5);
    create(&admin, &config.control_topics.monitor, 1, &[]).await;
    // A segment is closed after 5 s, and cleaned within two: it takes away what was written in 5 s.
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "5000"),
        ("min.cleanable.dirty.ratio", "0.01"),
    ];
    let id = create(&admin, &topic, 1, &settings).await;
    let mut watch = Watch::start(&monitor, &admin, &config);
    watch.until_measured(id, 1).await;
    let load = Load::start_keyed(&admin, &topic, 10);
    watch
        .until("rate after three compactions", |seen| {
            let track = seen.track(id, 0);
            let last = track.last().map(|(_, measured)| measured.source);
            shrinkages(&track) >= 3 && last == Some(Source::LogSize)
        })
        .await;
    load.end().await;
    let track = watch.end().await.track(id, 0);
    // The value, and 13 bytes; and in the smallest batch the 61 of its head.
    let bytes = u64::try_from(VALUE_BYTES).unwrap();
    let records = Records { count: 1, bytes: (bytes, bytes + 80), unseen: 20 * bytes };
    records.judge("compaction", &track);
    for (before, now) in steps(&track) {
        assert_eq!(now.sample.log_start.0, 0, "nothing else deletes");
        if now.sample.size < before.sample.size {
            assert_eq!(now.source, Source::HighWatermark, "{before:?} {now:?}");
        }
    }
}

/// A partition that is added is measured from its first record on, though it is seen only with the next metadata.
pub(crate) async fn partitions_that_are_added_are_right_within_30_s_of_their_first_records(
    bootstrap: String,
) {
    let bootstrap = bootstrap.as_str();
    let (monitor, admin, topic) = (client(bootstrap), client(bootstrap), unique_name("grown"));
    let config = config(bootstrap, &topic);
    create(&admin, &config.control_topics.monitor, 1, &[]).await;
    let id = create(&admin, &topic, 4, &[]).await;
    let mut watch = Watch::start(&monitor, &admin, &config);
    watch.until_measured(id, 4).await;
    let old = Load::start(&admin, &topic, (0..4).collect(), 2);
    watch.until("rate", |seen| seen.window(id, 3) >= Duration::from_secs(2)).await;
    admin.admin().grow(&topic, 64).await.unwrap();
    let new = Load::start(&admin, &topic, (4..64).collect(), 2);
    let all = Duration::from_secs(10);
    watch.until("rates of all", |seen| (0..64).all(|n| seen.window(id, n) >= all)).await;
    let (_, new) = (old.end().await, new.end().await);
    let seen = watch.end().await;
    let records = Records::in_batches(2, new.batch_bytes);
    for number in 0..64 {
        let track = seen.track(id, number);
        assert!(records.judge(&format!("partition {number}"), &track) > 0);
        if number >= 4 {
            let mut track = track.iter();
            let first = track.find(|(_, measured)| measured.sample.high_watermark.0 > 0);
            let (unix_ms, measured) = first.unwrap();
            let late = unix_ms.saturating_sub(new.first_unix_ms);
            assert!(late <= 30_000, "partition {number} was measured after {late} ms");
            assert!(measured.window <= Duration::from_secs(30), "{measured:?}");
        }
    }
}

/// Its records have the same offsets, and its log the same names.
pub(crate) async fn a_topic_that_is_made_again_is_measured_from_its_first_record_and_knows_nothing_of_the_former(
    bootstrap: String,
) {
    let bootstrap = bootstrap.as_str();
    let (monitor, admin, topic) = (client(bootstrap), client(bootstrap), unique_name("again"));
    let config = config(bootstrap, &topic);
    create(&admin, &config.control_topics.monitor, 1, &[]).await;
    let former = create(&admin, &topic, 2, &[]).await;
    let mut watch = Watch::start(&monitor, &admin, &config);
    watch.until_measured(former, 2).await;
    let load = Load::start(&admin, &topic, vec![0, 1], 40);
    watch.until("rate", |seen| seen.window(former, 1) >= Duration::from_secs(5)).await;
    let fast = load.end().await;
    admin.admin().delete(&topic).await.unwrap();
    let again = create(&admin, &topic, 1, &[]).await;
    assert_ne!(former, again);
    // A client that has not known the former.
    let load = Load::start(&client(bootstrap), &topic, vec![0], 4);
    watch.until("rate", |seen| seen.window(again, 0) >= Duration::from_secs(10)).await;
    let slow = load.end().await;
    let seen = watch.end().await;
    for number in [0, 1] {
        let track = seen.track(former, number);
        Records::in_batches(40, fast.batch_bytes).judge("the former", &track);
    }
    let track = seen.track(again, 0);
    Records::in_batches(4, slow.batch_bytes).judge("the same name", &track);
    assert_eq!(seen.track(again, 1), [], "it has one partition");
    let first = seen.of(again).next().unwrap().sampled_unix_ms;
    let last = seen.of(former).last().unwrap().sampled_unix_ms;
    assert!(last < first, "the former is reported until {last}, this one since {first}");
}
