//! The statuses as JSON.

use serde_json::json;
use tidegate_wire::status::{
    ConsumerRow, Freshness, Mode, Ownership, PartitionRow, PlanStatus, Role, Severity, WorkerPhase,
};
use tidegate_wire::{Alarm, ConsumerStatus, MonitorStatus, Status};

fn status() -> Status {
    Status {
        group: "orders-to-lake".to_owned(),
        mode: Mode::Own,
        role: Role::Leader,
        term: Some(12),
        freshness: Some(Freshness { p50_ms: 300, p99_ms: 900 }),
        plan: Some(PlanStatus {
            id: 61,
            trigger: Some("overload".to_owned()),
            moves: 2,
            done: 1,
            reasons: [("overload".to_owned(), 2)].into(),
            ..PlanStatus::default()
        }),
        alarms: vec![Alarm::WorkerLate { consumer: 3 }.raised(1_790_000_000_000)],
        consumers: vec![ConsumerRow {
            number: 3,
            worker: WorkerPhase::BackingOff,
            ..ConsumerRow::default()
        }],
        partitions: vec![PartitionRow {
            topic: "orders".to_owned(),
            number: 3,
            state: Ownership::Granted,
            epoch: Some(77),
            ..PartitionRow::default()
        }],
        ..Status::default()
    }
}

#[test]
fn a_status_is_read_as_it_was_written() {
    let text = serde_json::to_string(&status()).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status());
}

#[test]
fn a_status_reads_well_for_people_and_tools() {
    let value = serde_json::to_value(status()).unwrap();
    assert_eq!(value["role"], "leader");
    assert_eq!(value["consumers"][0]["worker"], "backing-off");
    assert_eq!(value["partitions"][0]["state"], "granted");
    assert_eq!(
        value["alarms"][0],
        json!({
            "severity": "warning",
            "code": "worker-late",
            "object": "consumer 3",
            "summary": "the worker of consumer 3 did not come up in time",
            "sinceUnixMs": 1_790_000_000_000_u64,
        })
    );
}

#[test]
fn the_status_of_another_version_is_read_as_far_as_it_is_known() {
    assert_eq!(serde_json::from_value::<Status>(json!({})).unwrap(), Status::default());
    let later = json!({
        "role": "observer",
        "mode": "advise",
        "zone": {"name": "a"},
        "alarms": [{"code": "novel", "severity": "notice"}],
        "consumers": [{"worker": "migrating"}],
    });
    let later: Status = serde_json::from_value(later).unwrap();
    assert_eq!((later.role, later.mode), (Role::Unknown, Mode::Unknown));
    assert_eq!(later.alarms[0].severity, Severity::Unknown);
    assert_eq!(later.consumers[0].worker, WorkerPhase::Unknown);
    assert!(serde_json::from_value::<MonitorStatus>(json!({"new": 1})).is_ok());
    assert!(serde_json::from_value::<ConsumerStatus>(json!({"new": 1})).is_ok());
}
