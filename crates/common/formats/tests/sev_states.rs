//! The tables of states and of tests are complete and agree with each other and with the list of commands.

use cloister_formats::sev::command::{Command, GuestState, PlatformState};
use cloister_formats::sev::states::*;
use cloister_formats::sev::status::Status;

#[test]
fn every_command_has_one_row() {
    let rows: Vec<Command> = command_rows().iter().map(|row| row.command).collect();
    assert_eq!(rows, Command::ALL);
    for row in command_rows() {
        assert_eq!(row.command.name(), Some(row.name));
    }
}

/// The list "guest transitions, complete".
#[test]
fn guest_transitions_are_these() {
    use GuestState as G;
    let transitions: Vec<(&str, GuestState)> =
        command_rows().iter().filter_map(|row| Some((row.name, row.guest_next?))).collect();
    assert_eq!(
        transitions,
        [
            ("SHUTDOWN", G::INVALID),
            ("DECOMMISSION", G::INVALID),
            ("LAUNCH_START", G::LUPDATE),
            ("LAUNCH_MEASURE", G::LSECRET),
            ("LAUNCH_FINISH", G::RUNNING),
            ("SEND_START", G::SUPDATE),
            ("SEND_FINISH", G::SENT),
            ("SEND_CANCEL", G::RUNNING),
            ("RECEIVE_START", G::RUPDATE),
            ("RECEIVE_FINISH", G::RUNNING),
        ]
    );
}

/// What the table of states demands has its test in the table of tests, and the other way round.
#[test]
fn both_tables_demand_the_same_states() {
    let checks = check_rows();
    // Of these the specification gives the states, but not the order of tests.
    let unordered = [Command::DOWNLOAD_FIRMWARE, Command::ACTIVATE_EX];
    for row in command_rows().into_iter().filter(|row| !unordered.contains(&row.command)) {
        let tests: Vec<&CheckRow> = checks.iter().filter(|check| check.command == row.command).collect();
        let has = |status| tests.iter().any(|test| test.status == status);
        assert_eq!(has(Status::INVALID_PLATFORM_STATE), row.platform.len() < 3, "{}", row.name);
        let guest = matches!(row.guest, GuestRule::In(_));
        let start = row.guest == GuestRule::New;
        assert_eq!(has(Status::INVALID_GUEST), guest || start, "{}", row.name);
        let some_states = matches!(&row.guest, GuestRule::In(states) if states.len() < 6);
        assert_eq!(has(Status::INVALID_GUEST_STATE), some_states, "{}", row.name);
        assert_eq!(has(Status::INACTIVE), row.asid != AsidRule::None, "{}", row.name);
        if row.guest_next.is_some() && guest {
            assert_ne!(row.platform, [PlatformState::INIT], "{}", row.name);
        }
    }
}

/// The required length is written back for the commands whose buffer is copied back on INVALID_LENGTH.
#[test]
fn lengths_are_written_back_where_the_buffer_is() {
    for check in check_rows().into_iter().filter(|check| check.writes_length) {
        assert_eq!(check.status, Status::INVALID_LENGTH, "{:?}", check);
        assert!(check.command.writes_back(Status::INVALID_LENGTH), "{:?}", check);
    }
}

#[test]
fn oddities_of_the_order_stand_as_they_are() {
    let order = |command: &str| -> Vec<Status> {
        let command = Command::from_name(command).unwrap();
        check_rows().iter().filter(|check| check.command == command).map(|check| check.status).collect()
    };
    use Status as S;
    assert_eq!(order("LAUNCH_UPDATE_VMSA")[..2], [S::INVALID_LENGTH, S::INVALID_PLATFORM_STATE]);
    let secret = order("LAUNCH_SECRET");
    assert_eq!(secret[2..5], [S::INVALID_ADDRESS, S::INVALID_LENGTH, S::INVALID_GUEST_STATE]);
    assert_eq!(secret[6..], [S::BAD_MEASUREMENT, S::UNSUPPORTED]);
    let receive = order("RECEIVE_UPDATE_DATA");
    assert_eq!(receive[receive.len() - 2..], [S::UNSUPPORTED, S::BAD_MEASUREMENT]);
    assert_eq!(order("SEND_UPDATE_DATA")[1..3], [S::INVALID_LENGTH, S::INVALID_GUEST]);
    assert_eq!(order("DBG_DECRYPT")[1..4], [S::INVALID_ADDRESS, S::INVALID_LENGTH, S::INVALID_GUEST]);
}
