//! Topics over nodes: creation, growth, leaders.

use super::*;

fn cluster(nodes: i32) -> Cluster {
    let policy = Policy { default_partitions: 2, ..Policy::default() };
    let mut cluster = Cluster::new(policy, 42);
    for number in 1..=nodes {
        let address = "127.0.0.1:1".parse().unwrap();
        cluster.nodes.add(NodeId::new(number), address);
    }
    cluster
}

fn topic(partitions: i32, replication: i16) -> NewTopic {
    NewTopic { partitions, replication, ..NewTopic::default() }
}

fn leaders(cluster: &Cluster, name: &str) -> Vec<Option<i32>> {
    let partitions = &cluster.topic(name).unwrap().partitions;
    let leader = |partition: &Partition| partition.leader().map(NodeId::get);
    partitions.iter().map(leader).collect()
}

#[test]
fn leaders_are_spread_over_the_nodes_within_and_across_topics() {
    let mut cluster = cluster(3);
    cluster.create_topic("a", topic(4, 1), false).unwrap();
    cluster.create_topic("b", topic(1, 1), false).unwrap();
    assert_eq!(leaders(&cluster, "a"), [Some(1), Some(2), Some(3), Some(1)]);
    assert_eq!(leaders(&cluster, "b"), [Some(2)]);
}

#[test]
fn a_stopped_node_gives_its_partitions_to_the_next_replica() {
    let mut cluster = cluster(3);
    cluster.create_topic("a", topic(3, 2), false).unwrap();
    cluster.set_node_up(NodeId::new(1), false);
    assert_eq!(leaders(&cluster, "a"), [Some(2), Some(2), Some(3)]);
    let first = cluster.partition("a", 0).unwrap();
    assert_eq!(first.leader_epoch(), 1);
    assert_eq!(first.in_sync(&cluster.nodes), [NodeId::new(2)]);
    assert_eq!(first.check_leader(NodeId::new(2), 0), Err(ResponseError::FencedLeaderEpoch));
}

#[test]
fn a_partition_without_a_live_replica_has_no_leader_until_one_returns() {
    let mut cluster = cluster(2);
    cluster.create_topic("a", topic(1, 1), false).unwrap();
    cluster.set_node_up(NodeId::new(1), false);
    assert_eq!(leaders(&cluster, "a"), [None]);
    cluster.set_node_up(NodeId::new(1), true);
    assert_eq!(leaders(&cluster, "a"), [Some(1)]);
}

#[test]
fn a_leader_moves_only_to_a_live_replica_and_wakes_those_who_wait() {
    let mut cluster = cluster(3);
    cluster.create_topic("a", topic(1, 2), false).unwrap();
    cluster.partition_mut("a", 0).unwrap().wait(WaiterId(9));
    assert!(cluster.move_leader("a", 0, NodeId::new(3)).is_err());
    assert!(cluster.take_woken().is_empty());
    cluster.move_leader("a", 0, NodeId::new(2)).unwrap();
    assert_eq!(cluster.take_woken(), BTreeSet::from([WaiterId(9)]));
    assert_eq!(leaders(&cluster, "a"), [Some(2)]);
}

#[test]
fn an_epochs_end_is_where_the_next_began() {
    let mut cluster = cluster(2);
    cluster.create_topic("a", topic(1, 2), false).unwrap();
    cluster.move_leader("a", 0, NodeId::new(2)).unwrap();
    let partition = cluster.partition("a", 0).unwrap();
    assert_eq!(partition.epoch_end(0), Some((0, 0)));
    assert_eq!(partition.epoch_end(1), Some((1, 0)));
    assert_eq!(partition.epoch_end(2), None);
}

#[test]
fn wrong_topics_are_refused_with_kafkas_codes() {
    let mut cluster = cluster(2);
    cluster.create_topic("a", topic(-1, -1), false).unwrap();
    assert_eq!(cluster.topic("a").unwrap().partitions.len(), 2);
    let mut code = |name: &str, new| cluster.create_topic(name, new, false).unwrap_err().0;
    assert_eq!(code("a", topic(1, 1)), ResponseError::TopicAlreadyExists);
    assert_eq!(code("b", topic(0, 1)), ResponseError::InvalidPartitions);
    assert_eq!(code("b", topic(1, 3)), ResponseError::InvalidReplicationFactor);
    assert_eq!(code("b/c", topic(1, 1)), ResponseError::InvalidTopicException);
    let mut wrong = topic(1, 1);
    wrong.settings.insert("no.such".into(), String::new());
    assert_eq!(code("b", wrong), ResponseError::InvalidConfig);
}

#[test]
fn a_topic_grows_but_never_shrinks() {
    let mut cluster = cluster(1);
    cluster.create_topic("a", topic(2, 1), false).unwrap();
    cluster.grow_topic("a", 5, None, true).unwrap();
    assert_eq!(leaders(&cluster, "a").len(), 2);
    cluster.grow_topic("a", 5, None, false).unwrap();
    assert_eq!(leaders(&cluster, "a").len(), 5);
    let refusal = cluster.grow_topic("a", 5, None, false).unwrap_err();
    assert_eq!(refusal.0, ResponseError::InvalidPartitions);
}

#[test]
fn a_topic_created_again_has_another_id() {
    let mut cluster = cluster(1);
    cluster.create_topic("a", topic(1, 1), false).unwrap();
    let old = cluster.delete_topic("a").unwrap();
    cluster.create_topic("a", topic(1, 1), false).unwrap();
    let new = cluster.topic("a").unwrap().id;
    assert_ne!(old, new);
    assert_eq!(cluster.name_of(old), Err(ResponseError::UnknownTopicId));
    assert_eq!(cluster.name_of(new), Ok("a"));
}
