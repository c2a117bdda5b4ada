//! Secured clusters: the ports on each kind of listener, what is refused and how it is said, secrets that stay secret,
//! and the main job with no more rights than `docs/security.md` names.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cognitive_complexity,
    reason = "helpers of tests, and stories told in one piece"
)]

mod bearer;
mod canary;
mod grants;
mod issuer;
#[path = "../main_job/job.rs"]
mod job;
#[path = "../rates/judge.rs"]
mod judge;
#[expect(dead_code, reason = "the other stories have more kinds of load")]
#[path = "../rates/load.rs"]
mod load;
mod mechanisms;
mod refusals;
mod rights;
mod sizes;
#[path = "../suite/mod.rs"]
mod suite;
#[path = "../rates/watch.rs"]
mod watch;
mod world;

/// One `#[test]` for each story of a module.
macro_rules! stories {
    ($($module:ident: $($story:ident),+ $(,)?);+ $(;)?) => {
        $(mod $module {
            $(#[test]
            fn $story() {
                let world = super::here();
                crate::world::run(crate::$module::$story(world));
            })+
        })+
    };
}

/// Of the suite what uses every port once. What lies under the streams differs between listeners, and not what is done
/// on them: the whole suite is for one kind.
#[macro_export]
macro_rules! essentials {
    ($cluster:expr) => {
        $crate::suite! { $cluster;
            admin: creating_growing_and_deleting_are_idempotent;
            control: records_are_read_back_in_order, end_and_start_follow_appends_and_trims;
            offsets: commits_are_found_again_and_missing_ones_are_absent, bounds_follow_the_log;
            produce: many_records_are_pipelined_and_acknowledged_in_order;
            reader: records_come_in_order_from_the_position_asked_for;
            sizes:
                a_round_follows_pattern_growth_and_writes,
                the_headers_of_all_batches_add_up_to_the_log;
        }
    };
}

/// The suite on the listeners as a user who may do everything, and the stories, on one version of Kafka.
macro_rules! on {
    ($name:ident, $version:expr) => {
        mod $name {
            use tidegate_testing::{KafkaVersion, SecureListener};

            use crate::world::{World, world};

            fn here() -> &'static World {
                world($version)
            }

            mod sasl_plaintext {
                crate::essentials! { super::super::here().as_admin(super::super::SecureListener::SaslPlaintext) }
            }

            mod sasl_ssl {
                crate::suite! { super::super::here().as_admin(super::super::SecureListener::SaslSsl) }
            }

            mod mutual_tls {
                crate::essentials! { super::super::here().as_admin(super::super::SecureListener::Ssl) }
            }

            mod bearer_token {
                crate::essentials! { super::super::here().as_bearer() }
            }

            stories! {
                refusals:
                    a_wrong_password_is_refused_and_a_corrected_file_is_picked_up,
                    an_unknown_authority_is_refused,
                    a_missing_client_certificate_is_refused,
                    a_certificate_for_another_name_is_refused_unless_that_is_skipped,
                    skipping_the_name_does_not_skip_the_authority,
                    tls_on_one_side_only_is_said,
                    sasl_on_one_side_only_is_said;
                mechanisms:
                    plain_and_scram_sha_256_are_spoken,
                    a_session_of_limited_time_is_renewed_unnoticed,
                    an_encrypted_key_is_decrypted;
                bearer:
                    tokens_come_from_a_file_and_from_an_endpoint,
                    a_token_that_expires_is_replaced_from_a_file,
                    a_token_that_expires_is_replaced_from_an_endpoint,
                    an_endpoint_that_fails_for_a_while_stops_nothing_for_good,
                    a_kept_token_that_is_refused_is_replaced,
                    a_token_file_that_is_caught_half_written_passes,
                    a_refused_token_is_told_and_a_corrected_file_is_picked_up,
                    a_token_file_that_is_of_no_use_is_told,
                    what_is_wrong_with_an_endpoint_is_told,
                    a_reader_without_tokens_is_told_why;
                rights:
                    a_user_without_rights_learns_which_is_missing,
                    the_main_job_needs_the_rights_of_the_table;
                sizes:
                    refused_log_sizes_are_said_once_and_rates_go_on_by_offsets;
                canary:
                    secrets_appear_in_no_error_no_debug_text_and_no_log;
            }
        }
    };
}

on! { kafka_4, KafkaVersion::V4 }
on! { kafka_3, KafkaVersion::V3 }
