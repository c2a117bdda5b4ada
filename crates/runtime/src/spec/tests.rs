use serde_json::json;

use super::*;

const MINIMAL: &str = "
group: orders
cluster: {bootstrapServers: 'localhost:9092'}
";

fn environment(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn parse(yaml: &str) -> Result<GroupSpec, Faults> {
    GroupSpec::parse(yaml, &BTreeMap::new())
}

fn minimal_and(yaml: &str) -> Result<GroupSpec, Faults> {
    parse(&format!("{MINIMAL}{yaml}"))
}

fn faults(yaml: &str) -> String {
    minimal_and(yaml).expect_err("the spec has faults").to_string()
}

#[test]
fn the_defaults_are_valid_and_observe() {
    let config = minimal_and("").unwrap().validate().unwrap();
    assert_eq!(config.mode, Mode::Observe);
    assert_eq!(config.group.0, "orders");
    assert_eq!(config.control_topics.ledger(), "data-engineering-controller");
    assert_eq!(config.capacity.packing, Permille(750));
}

#[test]
fn all_faults_of_all_stages_are_reported_at_once() {
    let yaml = "
mode: onw
topics:
  - {name: orders, sink: /var/out}
  - {name: 'cli cks', sink: 'blackhole:', start: lates}
  - {sink: nowhere, strat: latest}
  - {name: '', sink: 'blackhole:'}
capacity: {bytes_per_second: 2MB/s, packing: lots, overload: 0.5}
consumers: {min: 0, max: many}
monitor: {period: 30, window: 1h}
ownership: {lease: 30s}
http: {listen: here}
";
    insta::assert_snapshot!(faults(yaml), @r#"
    capacity.bytes_per_second: unknown key, did you mean bytesPerSecond?
    capacity.packing: expected a number such as 0.75 with at most three decimals, found lots
    consumers.max: expected a whole number, found text
    consumers.min: expected at least 1, found 0
    http.listen: expected an address and a port such as 127.0.0.1:8080, found "here"
    mode: expected one of observe, own, found "onw", did you mean own?
    monitor.period: expected a duration such as 30s, 500ms or 3m, found "30"
    topics[1].start: expected one of earliest, latest, found "lates", did you mean latest?
    topics[2].name: is required
    topics[2].strat: unknown key, did you mean start?
    topics[0].sink: expected a URL such as file:///var/lib/tidegate/out or blackhole:
    topics[1].name: expected at most 249 of letters, digits, '.', '_' and '-', found "cli cks"
    topics[3].name: is required
    topics[3].name: "" is listed twice
    capacity.overload: must be from 0.9 to 1
    monitor.window: must be at most the published limit (30s), found 1h
    ownership.lease: must be below ownership.fence (20s), found 30s
    "#);
}

#[test]
fn an_empty_spec_says_what_is_required() {
    insta::assert_snapshot!(parse("").unwrap_err(), @"
    group: is required
    cluster: is required
    ");
}

#[test]
fn a_section_whose_content_is_commented_out_is_left_out() {
    assert_eq!(minimal_and("monitor:\n").unwrap(), minimal_and("").unwrap());
}

#[test]
fn text_that_is_no_yaml_and_keys_given_twice_are_faults() {
    assert!(parse("group: [").is_err());
    assert!(parse("group: a\ngroup: b").unwrap_err().to_string().contains("duplicate"));
}

#[test]
fn a_secret_in_the_wrong_place_is_never_printed() {
    let sasl = |password: &str| {
        let sasl = format!("mechanism: SCRAM-SHA-256, username: u, password: {password}");
        parse(&format!(
            "group: g\ncluster: {{bootstrapServers: 'b:1', security: {{sasl: {{{sasl}}}}}}}"
        ))
    };
    assert!(sasl("{env: PASSWORD}").is_ok());
    insta::assert_snapshot!(sasl("hunter2").unwrap_err(), @"cluster.security.sasl.password: expected a map of keys, found text");
    insta::assert_snapshot!(sasl("{file: 5}").unwrap_err(), @"
    cluster.security.sasl.password.file: expected text, found a number
    ");
    let faults = faults("topics: [{name: a, sink: 'postgres://u:hunter2@host/db'}]");
    assert!(!faults.contains("hunter2"), "{faults}");
}

#[test]
fn credentials_are_complete_and_not_in_the_clear() {
    let security = |text: &str| {
        parse(&format!("group: g\ncluster: {{bootstrapServers: 'b:1', security: {text}}}"))
            .map_or_else(|faults| faults.to_string(), |_| String::new())
    };
    let plain = "sasl: {mechanism: PLAIN, username: u, password: {env: P}}";
    assert!(security(&format!("{{{plain}}}")).contains("in the clear"));
    assert_eq!(security(&format!("{{tls: {{}}, {plain}}}")), "");
    assert!(security("{tls: {keyFile: k}}").contains("go together"));
    assert!(security("{tls: {keyPassword: {env: P}}}").contains("keyPassword is for keyFile"));
    assert!(security("{sasl: {mechanism: SCRAM-SHA-512}}").contains("needs username"));
}

#[test]
fn a_bearer_token_comes_from_one_place_and_is_not_sent_in_the_clear() {
    let with = |security: &str| {
        parse(&format!("group: g\ncluster: {{bootstrapServers: 'b:1', security: {{{security}}}}}"))
            .map_or_else(|faults| faults.to_string(), |_| String::new())
    };
    let security = |sasl: &str| with(&format!("tls: {{}}, sasl: {{{sasl}}}"));
    let bearer = |rest: &str| security(&format!("mechanism: OAUTHBEARER, {rest}"));
    let client = "clientId: me, clientSecret: {env: S}";
    assert_eq!(bearer("tokenFile: /t"), "");
    assert_eq!(bearer(&format!("tokenEndpoint: 'https://host/t', scope: kafka, {client}")), "");
    insta::assert_snapshot!(bearer("scope: s"), @"cluster.security.sasl: OAUTHBEARER needs one of tokenFile and tokenEndpoint");
    insta::assert_snapshot!(
        bearer(&format!("tokenFile: /t, tokenEndpoint: 'https://host/t', {client}")),
        @"cluster.security.sasl: OAUTHBEARER needs one of tokenFile and tokenEndpoint");
    insta::assert_snapshot!(bearer(&format!("tokenFile: /t, username: u, {client}")), @"
    cluster.security.sasl.username: is for PLAIN and SCRAM: OAUTHBEARER has tokenFile, or tokenEndpoint with clientId and clientSecret
    cluster.security.sasl.clientId: is for tokenEndpoint: leave it out with tokenFile
    cluster.security.sasl.clientSecret: is for tokenEndpoint: leave it out with tokenFile
    ");
    insta::assert_snapshot!(bearer("tokenEndpoint: 'http://u:hunter2@host/t', clientId: me"), @"
    cluster.security.sasl: tokenEndpoint needs clientId and clientSecret
    cluster.security.sasl.tokenEndpoint: must begin with https://, because the client secret is sent there
    cluster.security.sasl.tokenEndpoint: must not hold credentials: use clientId and clientSecret
    ");
    insta::assert_snapshot!(
        security("mechanism: PLAIN, username: u, password: {env: P}, tokenFile: /t"),
        @"cluster.security.sasl.tokenFile: is for OAUTHBEARER: leave it out, or set mechanism to OAUTHBEARER");
    insta::assert_snapshot!(
        with("sasl: {mechanism: OAUTHBEARER, tokenFile: /t}"),
        @"cluster.security.sasl: OAUTHBEARER sends the token in the clear: set cluster.security.tls as well");
}

#[test]
fn the_clocks_of_the_ledger_must_be_in_order() {
    insta::assert_snapshot!(
        faults("ownership: {lease: 7s, fence: 6s, tick: 20s}"), @"
    ownership.lease: must be above ownership.writeTimeout + ownership.heartbeat (7s), found 7s
    ownership.lease: must be below ownership.fence (6s), found 7s
    ownership.tick: must be below ownership.electAfter (12s), found 20s
    ");
}

#[test]
fn the_environment_wins_over_the_file_and_slips_are_told() {
    let yaml = format!("{MINIMAL}capacity: {{bytesPerSecond: 1MB/s}}");
    let spec = GroupSpec::parse(
        &yaml,
        &environment(&[
            ("TIDEGATE_CAPACITY_BYTES_PER_SECOND", "20MB/s"),
            ("TIDEGATE_CONSUMERS_MAX", "3"),
            ("TIDEGATE_GROUP", "42"),
            ("TIDEGATE_TOPICS", "[{name: a, sink: 'blackhole:'}]"),
            ("TIDEGATE_SERVICE_HOST", "10.0.0.1"),
            ("PATH", "/bin"),
        ]),
    );
    let spec = spec.unwrap();
    assert_eq!(spec.capacity.bytes_per_second.get(), 20_000_000);
    assert_eq!((spec.consumers.max.get(), spec.group.as_str()), (3, "42"));
    assert_eq!(spec.topics.len(), 1);

    let slips = environment(&[("TIDEGATE_CONSUMER_MAX", "3"), ("TIDEGATE_CONSUMERS_MIN", "x")]);
    insta::assert_snapshot!(GroupSpec::parse(MINIMAL, &slips).unwrap_err(), @"
    TIDEGATE_CONSUMER_MAX: unknown variable, did you mean TIDEGATE_CONSUMERS_MAX?
    consumers.min: expected a whole number, found text
    ");
}

#[test]
fn every_key_has_a_variable_of_its_own() {
    let variables = edit::variables(schema());
    assert!(variables.contains_key("TIDEGATE_CLUSTER_SECURITY_SASL_PASSWORD_FILE"));
    assert!(variables.contains_key("TIDEGATE_WORKERS_RESTART_BACKOFF_INITIAL"));
    let page = docs();
    let keys = page.lines().filter(|line| line.starts_with("| `") && !line.contains("see below"));
    // Three secrets have two variables each; an entry of the list of topics has none.
    assert_eq!(variables.len(), keys.count() - 4 + 1 + 3);
}

#[test]
fn what_is_printed_is_the_spec_again() {
    let spec = minimal_and("topics: [{name: 'a*', sink: 'file:///x', start: latest}]").unwrap();
    assert_eq!(parse(&spec.print()).unwrap(), spec);
}

#[test]
fn a_start_may_be_a_time() {
    let text = "topics: [{name: 'a*', sink: 'file:///x', start: {timestamp: 1790000000000}}]\n";
    let spec = minimal_and(text).unwrap();
    assert_eq!(spec.topics[0].start, Start::Timestamp(1_790_000_000_000));
    assert_eq!(parse(&spec.print()).unwrap(), spec);
}

#[test]
fn an_override_changes_one_field_and_is_checked() {
    let spec = minimal_and("topics: [{name: a.b, sink: 'file:///x'}]").unwrap();
    let faster = spec.with_override("capacity.bytesPerSecond", Some(json!("1MB/s"))).unwrap();
    assert_eq!(faster.capacity.bytes_per_second.get(), 1_000_000);
    assert_eq!(spec.with_override("capacity.bytesPerSecond", None).unwrap(), spec);

    let more = spec.with_override("topics.c.d", Some(json!({"sink": "blackhole:"}))).unwrap();
    assert_eq!(more.topics[1].name, "c.d");
    let moved = more.with_override("topics.a.b", Some(json!({"sink": "file:///y"}))).unwrap();
    assert_eq!((moved.topics.len(), moved.topics[1].sink.as_str()), (2, "file:///y"));
    assert!(more.with_override("topics.c.d", Some(json!(null))).unwrap() == spec);

    let wrong = spec.with_override("capacity.speed", Some(json!(5))).unwrap_err();
    assert_eq!(wrong.to_string(), "capacity.speed: unknown key");
    assert!(spec.with_override("capacity", Some(json!({"packing": 3}))).is_err());
}

#[test]
fn the_entry_of_a_topic_is_its_name_or_the_longest_prefix() {
    let yaml = "
topics:
  - {name: '*', sink: 'blackhole:all'}
  - {name: 'orders.*', sink: 'blackhole:orders'}
  - {name: orders.eu, sink: 'blackhole:eu'}
";
    let config = minimal_and(yaml).unwrap().validate().unwrap();
    let sink = |topic: &str| config.topic(topic).map(|entry| entry.sink.rest());
    assert_eq!(sink("orders.eu"), Some("eu"));
    assert_eq!(sink("orders.us"), Some("orders"));
    assert_eq!(sink("clicks"), Some("all"));
    assert_eq!(sink("__consumer_offsets"), None);
    assert_eq!(sink("data-engineering-controller"), None);
    assert_eq!(config.topic_patterns(), ["*", "orders.*", "orders.eu"]);
}

#[test]
fn the_annotated_example_is_valid() {
    let spec = parse(include_str!("../../../../examples/group.yaml")).unwrap();
    assert_eq!(spec.mode, Mode::Own);
    assert_eq!(spec.capacity, Capacity::default(), "the example shows the defaults");
}

#[test]
fn the_page_of_the_configuration_is_up_to_date() {
    crate::generated::assert_up_to_date("docs/config.md", &docs());
}

#[test]
fn dead_letters_go_where_they_do_not_come_back() {
    let target = |text: &str| {
        let yaml = "topics: [{name: 'orders*', sink: 'file:///out/', deadLetters: 'TARGET'}]";
        minimal_and(&yaml.replace("TARGET", text)).map(|spec| spec.validate().unwrap())
    };
    for text in ["kafka:dead.orders", "file:///dead", "s3://bucket/dead"] {
        let config = target(text).unwrap();
        let found = config.topic("orders").unwrap().dead_letters.as_ref().unwrap();
        assert_eq!(found.to_string(), text);
    }
    let faults = [
        "kafka:orders.dead",
        "kafka:data-engineering-controller",
        "kafka:",
        "kafka:a b",
        "file:///out?parallelWrites=4",
        "http://host/",
        "dead",
    ];
    let faults = faults.map(|text| target(text).unwrap_err().to_string());
    insta::assert_snapshot!(faults.join("\n"), @r#"
    topics[0].deadLetters: orders.dead is itself a topic of interest, by topics entry "orders*": what is rejected would come back
    topics[0].deadLetters: data-engineering-controller is no data topic: choose another one
    topics[0].deadLetters: expected kafka:TOPIC, file:///FOLDER or s3://BUCKET/PREFIX
    topics[0].deadLetters: expected at most 249 of letters, digits, '.', '_' and '-', found "a b"
    topics[0].deadLetters: is where the records of the sink are: choose another folder
    topics[0].deadLetters: expected kafka:TOPIC, file:///FOLDER or s3://BUCKET/PREFIX, found the scheme "http"
    topics[0].deadLetters: expected kafka:TOPIC, file:///FOLDER or s3://BUCKET/PREFIX
    "#);
}
