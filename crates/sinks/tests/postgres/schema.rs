//! Tables that are not as the sink needs them: found at open, and when they change later.

use tidegate_runtime::ports::{Class, SinkError};

use crate::world::{World, acquire, chain, open, write};

/// A table of records with some columns only.
async fn world_with(table: &str) -> World {
    let world = World::new().await;
    world.run(table).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_is_created_or_named() {
    let world = World::new().await;
    let text = world.refusal("create=false").await;
    assert!(text.contains("there is no table public.records"), "{text}");
    drop(world.open("").await);
    drop(world.open("create=false").await);
    let text = world.refusal("schema=elsewhere").await;
    assert!(text.contains("there is no schema elsewhere"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_that_start_together_create_the_tables_together() {
    let world = World::new().await;
    let opened = futures_util::future::join_all((0..8).map(|_| world.open("connections=1"))).await;
    for (epoch, sink) in (1..).zip(&opened) {
        acquire(sink, epoch).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_another_type_is_named_with_both_types() {
    let world = world_with("CREATE TABLE records (\"offset\" integer, value bytea)").await;
    let text = world.refusal("columns=offset,value").await;
    assert!(
        text.contains(
            "column offset of table public.records is of type integer, and bigint is needed"
        ),
        "{text}"
    );
    let text = world.refusal("columns=value:payload").await;
    assert!(text.contains("has no column payload of type bytea or text or jsonb"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_must_be_given_and_is_not_is_named() {
    let world = world_with("CREATE TABLE records (value bytea, tenant text NOT NULL)").await;
    let text = world.refusal("columns=value").await;
    assert!(text.contains("column tenant of table public.records is NOT NULL"), "{text}");
    world.run("ALTER TABLE records ALTER tenant SET DEFAULT 'a'").await;
    drop(world.open("columns=value").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_breaks_the_guarantee_is_refused() {
    let world = world_with("CREATE UNLOGGED TABLE records (value bytea)").await;
    let text = world.refusal("columns=value").await;
    assert!(text.contains("does not survive a crash of the server"), "{text}");
    world.run("DROP TABLE records; CREATE VIEW records AS SELECT ''::bytea AS value").await;
    let text = world.refusal("columns=value").await;
    assert!(text.contains("is no ordinary table"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_positions_without_its_key_is_refused() {
    let world = World::new().await;
    drop(world.open("").await);
    world.run("ALTER TABLE tidegate_offsets DROP CONSTRAINT tidegate_offsets_pkey").await;
    let text = world.refusal("").await;
    assert!(text.contains("no primary key on (records_table, topic_id, partition)"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_named_with_its_grant() {
    let world = World::new().await;
    drop(world.open("").await);
    world
        .run("DROP ROLE IF EXISTS loader; CREATE ROLE loader LOGIN PASSWORD 'loader-secret'")
        .await;
    let port = world.server.port();
    let url = world.url_at(port, "loader", "create=false");
    for (missing, grant) in [
        ("INSERT ON TABLE public.records", "GRANT INSERT ON public.records TO loader"),
        ("SELECT ON TABLE public.tidegate_offsets", "GRANT SELECT ON tidegate_offsets TO loader"),
        ("INSERT ON TABLE public.tidegate_offsets", "GRANT INSERT ON tidegate_offsets TO loader"),
        ("UPDATE ON TABLE public.tidegate_offsets", "GRANT UPDATE ON tidegate_offsets TO loader"),
    ] {
        let error = open(&url).await.unwrap_err();
        assert_eq!(error.class(), Class::Permanent);
        assert!(chain(&error).contains(&format!("GRANT {missing} TO loader")), "{}", chain(&error));
        world.run(grant).await;
    }
    let sink = open(&url).await.unwrap();
    acquire(&sink, 1).await.unwrap();
    write(&sink, 1, 0..3).await.unwrap();

    world.run("REVOKE INSERT ON records FROM loader").await;
    let error = write(&sink, 1, 3..6).await.unwrap_err();
    assert!(matches!(error, SinkError::Refused { .. }), "{error:?}");
    assert!(
        chain(&error).contains("has no right INSERT on TABLE public.records"),
        "{}",
        chain(&error)
    );
    let text = chain(&open(&world.url_at(port, "loader", "table=more")).await.unwrap_err());
    assert!(text.contains("has no right CREATE on SCHEMA public"), "{text}");
    world.run("DROP OWNED BY loader; DROP ROLE loader").await;
}

/// The blocks of SQL on the page of sinks: both tables, the rights, and the statement that decides.
fn documented_sql() -> Vec<&'static str> {
    let page = include_str!("../../../../docs/sinks.md");
    let (_, section) = page.split_once("\n## postgres\n").unwrap();
    section.split("```sql\n").skip(1).map(|block| block.split("```").next().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_tables_and_rights_suffice() {
    let world = World::new().await;
    let role = "loader_documented";
    world.run(&format!("CREATE ROLE {role} LOGIN PASSWORD 'admin-secret'")).await;
    let [tables, grants, ..] = documented_sql()[..] else { panic!("the page has SQL") };
    world.run(tables).await;
    world.run(&grants.replace("loader", role)).await;
    let url = world.url("create=false").replace("admin@", &format!("{role}@"));
    let sink = open(&url).await.unwrap();
    acquire(&sink, 1).await.unwrap();
    write(&sink, 1, 0..3).await.unwrap();
    assert_eq!(world.offsets().await, [0, 1, 2]);
    world.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_that_are_created_are_those_documented() {
    let shape = "SELECT string_agg(concat_ws(' ', table_name, column_name, data_type, is_nullable), \
                 ', ' ORDER BY table_name, ordinal_position) \
                 FROM information_schema.columns WHERE table_schema = 'public'";
    let (created, documented) = (World::new().await, World::new().await);
    drop(created.open("").await);
    documented.run(documented_sql()[0]).await;
    let shapes = [&created, &documented].map(|world| world.admin.query_one(shape, &[]));
    let [created, documented] = shapes.map(|shape| async { shape.await.unwrap().get(0) });
    let (created, documented): (String, String) = (created.await, documented.await);
    assert_eq!(created, documented);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_changes_later_is_refused_with_the_same_words() {
    let world = World::new().await;
    let sink = world.open("").await;
    acquire(&sink, 1).await.unwrap();
    write(&sink, 1, 0..3).await.unwrap();
    for (change, words) in [
        ("ALTER TABLE records DROP COLUMN key", "has no column key"),
        (
            "ALTER TABLE records ADD COLUMN key integer",
            "column key of table public.records is of type integer",
        ),
        (
            "ALTER TABLE records ALTER key TYPE text, ALTER value TYPE text USING 'x'",
            "the columns of table public.records have changed",
        ),
        ("DROP TABLE records", "there is no table public.records"),
    ] {
        world.run(change).await;
        let stands = acquire(&sink, 1).await.unwrap();
        assert_eq!(stands, Some(3));
        let error = write(&sink, 1, 3..6).await.unwrap_err();
        assert!(matches!(error, SinkError::Refused { .. }), "{change}: {error:?}");
        assert!(chain(&error).contains(words), "{change}: {}", chain(&error));
    }
    world.run("DROP TABLE tidegate_offsets").await;
    let error = acquire(&sink, 1).await.unwrap_err();
    assert!(matches!(error, SinkError::Refused { .. }), "{error:?}");
    assert!(chain(&error).contains("there is no table"), "{}", chain(&error));
}

/// A full disk cannot be had in a test: a trigger says what the server would say.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_transient_and_says_so() {
    let world = World::new().await;
    let sink = world.open("").await;
    acquire(&sink, 1).await.unwrap();
    world
        .run(
            "CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$; \
             CREATE TRIGGER no_space BEFORE INSERT ON records FOR EACH ROW EXECUTE FUNCTION no_space()",
        )
        .await;
    let error = write(&sink, 1, 0..3).await.unwrap_err();
    assert_eq!(error.class(), Class::Transient);
    assert!(chain(&error).contains("the disk of database"), "{}", chain(&error));
    world.run("DROP TRIGGER no_space ON records").await;
    assert_eq!(acquire(&sink, 1).await.unwrap(), None);
    write(&sink, 1, 0..3).await.unwrap();
}
