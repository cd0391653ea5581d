use super::*;
use crate::cli::server::Address;
use crate::cli::top::data::link::Link;
use crate::cli::top::view::filter::own_filter;
use std::time::Instant;

fn view(sort: Option<&str>) -> Result<View, String> {
    View::new(false, None, &[], Duration::from_secs(1), sort)
}

/// Presses keys where no server answers.
fn press(view: &mut View, keys: &[Key]) -> Effect {
    let address = Address::Unix("/nonexistent".into());
    let link = Link::new(&[address], view.question(), Instant::now()).unwrap();
    let press = |_, &key| view.press(key, &Lines(&link));
    keys.iter().fold(Effect::Draw, press)
}

#[test]
fn sort_is_a_column_a_sum_or_a_name() {
    let name = |view: &View| view.sort().map(|index| view.columns[index].name);
    assert_eq!(name(&view(None).unwrap()), Some("disk"));
    assert_eq!(name(&view(Some("cpu")).unwrap()), Some("cpu"));
    assert_eq!(name(&view(Some("user")).unwrap()), None);
    let reversed = view(Some("-auth_failures")).unwrap();
    assert_eq!(name(&reversed), Some("auth_failures"));
    assert!(reversed.reverse && view(Some("cpu-")).unwrap().reverse);
    for (sort, column) in [("FAIL", "auth_failures"), ("Cpu", "cpu"), ("DISK", "disk")] {
        assert_eq!(name(&view(Some(sort)).unwrap()), Some(column));
    }
    let why = view(Some("nonsense")).unwrap_err();
    assert!(why.starts_with("cannot sort user by \"nonsense\"; there are: name disk cpu "));
    let level = Some(Level::Session);
    let logins = View::new(false, level, &[], Duration::from_secs(1), Some("LOGINS"));
    assert!(logins.unwrap_err().starts_with("cannot sort session by"));
}

#[test]
fn one_key_sorts_and_the_same_once_more_reverses() {
    let mut view = view(None).unwrap();
    assert_eq!(press(&mut view, &[Key::Char('C')]), Effect::Watch);
    assert_eq!((view.watched().name, view.reverse), ("cpu", false));
    press(&mut view, &[Key::Char('C')]);
    assert!(view.reverse);
    press(&mut view, &[Key::Char('L'), Key::Char('3')]);
    assert_eq!(view.watched().name, "disk", "sessions have no logins");
    press(&mut view, &[Key::Char('2')]);
    assert_eq!(view.watched().name, "num_logins");
    press(&mut view, &[Key::Char('8'), Key::Char('P')]);
    assert_eq!(view.watched().name, "time_p99");
    press(&mut view, &[Key::Char('4')]);
    assert_eq!(view.watched().name, "clock_time");
    press(&mut view, &[Key::Char('2')]);
    assert_eq!(view.watched().name, "disk");
}

#[test]
fn levels_and_filters_make_questions() {
    let mut view = view(None).unwrap();
    assert_eq!(press(&mut view, &[Key::Tab]), Effect::Ask);
    let question = view.question();
    assert_eq!(question.level, Level::Session);
    assert_eq!(question.filters, [b"connected"]);
    press(&mut view, &[Key::BackTab, Key::BackTab, Key::BackTab]);
    assert_eq!(view.level, Level::Cmd);
    press(&mut view, &[Key::BackTab, Key::BackTab]);
    assert_eq!(view.level, Level::Global);
    for (keys, level) in [
        ([Key::Char('7'), Key::F(8)], Level::Cmd),
        ([Key::Char('8'), Key::F(7)], Level::Service),
    ] {
        press(&mut view, &keys);
        assert_eq!(view.level, level);
    }
    let typed = |text: &str| text.chars().map(Key::Char).collect::<Vec<_>>();
    press(
        &mut view,
        &[&[Key::F(2)], &typed("\\joe since=7")[..], &[Key::Enter]].concat(),
    );
    assert_eq!(view.question().filters, [&b"user=*joe*"[..], b"since=7"]);
    assert_eq!(press(&mut view, &[Key::Esc]), Effect::Ask);
    assert_eq!(view.question().filters, [b""; 0]);
}

#[test]
fn wrong_filters_are_not_asked() {
    for (level, text, filters) in [
        (Level::Domain, "a*", Some(vec!["domain=a*"])),
        (Level::Ip, "10.0.", Some(vec![])),
        (Level::Ip, "ip=10.0.0.0/8", Some(vec!["ip=10.0.0.0/8"])),
        (Level::User, "ip=10.0.", None),
        (Level::Cmd, "fet cmd=x", Some(vec!["cmd=*fet*", "cmd=x"])),
        (Level::User, "since=someday", None),
        (
            Level::User,
            "since=7 service=imap",
            Some(vec!["since=7", "service=imap"]),
        ),
    ] {
        let filters = filters.map(|f| f.into_iter().map(Vec::from).collect::<Vec<_>>());
        assert_eq!(server_filters(level, text).ok(), filters, "{text}");
    }
    assert_eq!(own_filter(Level::Ip, "10.0. ip=1.2.3.4"), ["10.0."]);
}

#[test]
fn faster_and_slower_stop_at_the_ends() {
    let mut view = view(None).unwrap();
    assert_eq!(press(&mut view, &[Key::Char('+')]), Effect::Hurry);
    assert_eq!(view.delay, Duration::from_millis(500));
    press(&mut view, &[Key::Char('+'); 9]);
    assert_eq!(view.delay, Duration::from_millis(200));
    press(&mut view, &[Key::Char('-'); 20]);
    assert_eq!(view.delay, Duration::from_secs(60));
}
