use std::fmt::Write as _;

use super::*;

fn instance(name: &str, id: &str) -> Instance {
    let tags = [("Name", name), ("Team", "checkout"), ("Env", "prod")];
    Instance {
        name: Some(name.to_owned()),
        private_ip: Some("10.0.1.11".to_owned()),
        tags: tags
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..Instance::bare(id, "eu-west-1")
    }
}

fn fleet() -> Vec<Instance> {
    vec![
        instance("web-2", "i-00000002"),
        instance("web-1", "i-00000001"),
        instance("db-1", "i-00000003"),
    ]
}

fn screen(takes_several: bool) -> Screen {
    let question = Question {
        text: "which server?".to_owned(),
        takes_several,
        is_surprise: false,
        names_region: false,
    };
    Screen::new(question, Vec::new())
}

fn filled(takes_several: bool) -> Screen {
    let mut screen = screen(takes_several);
    let (instances, note) = (fleet(), None);
    assert_eq!(screen.feed(Feed::Whole { instances, note }), Next::GoOn);
    screen
}

fn type_in(screen: &mut Screen, text: &str) {
    for c in text.chars() {
        assert_eq!(screen.press(Key::Char(c)), Next::GoOn);
    }
}

#[track_caller]
fn taken(next: Next) -> Vec<String> {
    match next {
        Next::Take(instances) => instances
            .into_iter()
            .map(|one| one.label().to_owned())
            .collect(),
        other => panic!("nothing was taken: {other:?}"),
    }
}

/// The lines without what makes them bold, faint or reversed.
fn plain(frame: &[String]) -> String {
    let mut text = frame.join("\n");
    for code in ["\x1b[7m", "\x1b[27m", "\x1b[2m", "\x1b[22m"] {
        text = text.replace(code, "");
    }
    text.replace(FOUND.0, "<").replace(FOUND.1, ">")
}

#[test]
fn typing_searches_and_arrows_move_among_what_is_left() {
    let mut screen = filled(false);
    assert_eq!(taken(screen.press(Key::Enter)), ["db-1"], "by name");
    type_in(&mut screen, "web");
    screen.press(Key::Down);
    screen.press(Key::Down);
    assert_eq!(taken(screen.press(Key::Enter)), ["web-2"]);
    type_in(&mut screen, "x");
    assert_eq!(screen.press(Key::Enter), Next::GoOn, "nothing is left");
    screen.press(Key::EraseAll);
    assert_eq!(taken(screen.press(Key::Enter)), ["db-1"]);
    assert_eq!(screen.press(Key::Leave), Next::Leave);
}

#[test]
fn what_was_used_last_comes_first() {
    let mut screen = screen(false);
    let at = |id: &str, name: &str| Recent {
        id: id.to_owned(),
        name: Some(name.to_owned()),
        region: "eu-west-1".to_owned(),
        profile: "default".to_owned(),
        sandbox: false,
        verb: "shell".to_owned(),
        used: jiff::Timestamp::now(),
    };
    screen.recents = vec![at("i-00000002", "web-2"), at("i-00000001", "web-1")];
    let (instances, note) = (fleet(), None);
    screen.feed(Feed::Whole { instances, note });
    let text = plain(&screen.frame(80, 24));
    let places = ["web-2", "web-1", "db-1"].map(|name| text.find(name).expect(name));
    assert!(places.is_sorted(), "{text}");
    assert!(text.contains("USED"), "{text}");
    // A whole name counts more than use.
    type_in(&mut screen, "web-1");
    assert_eq!(taken(screen.press(Key::Enter)), ["web-1"]);
}

#[test]
fn tab_marks_where_several_can_be_taken() {
    let mut screen = filled(true);
    screen.press(Key::Mark);
    screen.press(Key::Down);
    screen.press(Key::Mark);
    let text = plain(&screen.frame(80, 24));
    assert!(text.contains("2 marked"), "{text}");
    assert!(text.contains("\n * db-1"), "{text}");
    // Marks stay while something else is searched.
    type_in(&mut screen, "web-1");
    assert_eq!(taken(screen.press(Key::Enter)), ["db-1", "web-2"]);

    let mut single = filled(false);
    single.press(Key::Mark);
    assert!(!plain(&single.frame(80, 24)).contains("mark"));
    assert_eq!(taken(single.press(Key::Enter)), ["db-1"]);
}

#[test]
fn pages_fill_the_list_and_the_cursor_stays_on_its_row() {
    let mut screen = screen(false);
    let text = plain(&screen.frame(80, 24));
    assert!(text.contains("listing…"), "{text}");
    screen.feed(Feed::Page(vec![
        instance("web-1", "i-00000001"),
        instance("web-2", "i-00000002"),
    ]));
    screen.press(Key::Down);
    screen.feed(Feed::Page(vec![instance("app-1", "i-00000004")]));
    let (instances, note) = (fleet(), Some("eu-west-2 is missing".to_owned()));
    screen.feed(Feed::Whole { instances, note });
    let text = plain(&screen.frame(80, 24));
    assert!(
        text.contains("eu-west-2 is missing") && !text.contains("listing"),
        "{text}"
    );
    assert_eq!(taken(screen.press(Key::Enter)), ["web-2"]);
}

#[test]
fn what_is_typed_ahead_waits_for_the_list() {
    let mut early = screen(false);
    type_in(&mut early, "web-1");
    assert_eq!(early.press(Key::Enter), Next::GoOn);
    let (instances, note) = (fleet(), None);
    assert_eq!(
        taken(early.feed(Feed::Whole { instances, note })),
        ["web-1"]
    );
    assert_eq!(screen(false).feed(Feed::Failed), Next::Leave);
}

#[test]
fn what_is_found_is_marked_and_a_tag_is_shown_that_has_no_column() {
    let mut screen = filled(false);
    type_in(&mut screen, "w2 check");
    let text = plain(&screen.frame(80, 24));
    assert!(text.contains("<w>eb-<2>  i-00000002"), "{text}");
    assert!(text.contains("Team=<check>out"), "{text}");
    assert!(text.contains("1 of 3"), "{text}");
}

#[test]
fn a_key_shows_the_tags_of_the_row() {
    let mut screen = filled(false);
    screen.press(Key::Tags);
    let text = plain(&screen.frame(80, 24));
    assert!(
        text.contains("Env=prod  Name=db-1  Team=checkout"),
        "{text}"
    );
    screen.press(Key::Tags);
    assert!(!plain(&screen.frame(80, 24)).contains("Env=prod"));
}

#[test]
fn no_line_is_wider_than_the_terminal_and_no_frame_higher() {
    let mut screen = screen(true);
    let mut wide = instance(&"日本".repeat(30), "i-00000001");
    for number in 0..200 {
        let mut value = String::new();
        let _ = write!(value, "value {number}");
        wide.tags.insert(format!("Key{number}"), value);
    }
    let mut instances = vec![wide];
    instances.extend((0..99).map(|number| instance(&format!("web-{number}"), "i-00000002")));
    let note = Some("a region is missing".to_owned());
    screen.feed(Feed::Whole { instances, note });
    screen.press(Key::End);
    screen.press(Key::Tags);
    for typed in ["", "日", "Key1"] {
        screen.press(Key::EraseAll);
        type_in(&mut screen, typed);
        for (columns, rows) in [(20, 10), (80, 24), (200, 60), (3, 4), (1, 1)] {
            let frame = screen.frame(columns, rows);
            assert!(frame.len() <= rows.max(5), "{columns} x {rows}: {frame:?}");
            for line in plain(&frame).replace(['<', '>'], "").lines() {
                assert!(
                    line.width() < columns.max(4),
                    "{columns} x {rows}: {line:?}"
                );
            }
        }
    }
}

/// How long ten thousand rows take is measured by hand; here is that all of them are searched.
#[test]
fn ten_thousand_rows_are_searched_at_each_key() {
    let mut screen = screen(false);
    let number = |n: usize| instance(&format!("web-{n}"), &format!("i-{n:08x}"));
    for page in 0..10 {
        screen.feed(Feed::Page(
            (page * 1000..(page + 1) * 1000).map(number).collect(),
        ));
    }
    type_in(&mut screen, "web-9999");
    let text = plain(&screen.frame(80, 24));
    assert!(text.contains("1 of 10000"), "{text}");
}

#[test]
fn the_last_line_says_what_enter_does() {
    let last = |screen: &mut Screen| plain(&screen.frame(120, 24)[2..]);
    let mut picker = filled(true);
    assert!(last(&mut picker).contains("  Enter takes  "));
    type_in(&mut picker, "zzz");
    let told = last(&mut picker);
    assert!(
        told.contains("nothing matches") && !told.contains("Enter"),
        "{told}"
    );
    assert_eq!(picker.press(Key::Enter), Next::GoOn);
    picker.press(Key::EraseAll);
    picker.press(Key::Mark);
    type_in(&mut picker, "zzz");
    let told = last(&mut picker);
    assert!(
        told.contains("nothing matches  1 marked  Enter takes those marked"),
        "{told}"
    );
    assert_eq!(taken(picker.press(Key::Enter)), ["db-1"]);

    // Of a list that is on its way, Enter takes what comes, unless somebody types on.
    let mut picker = screen(false);
    type_in(&mut picker, "web-1");
    let told = plain(&picker.frame(120, 24));
    assert!(
        told.contains("Enter takes the first that matches"),
        "{told}"
    );
    assert_eq!(picker.press(Key::Enter), Next::GoOn);
    let told = plain(&picker.frame(120, 24));
    assert!(told.contains("the first that matches is taken"), "{told}");
    picker.press(Key::EraseAll);
    assert_eq!(picker.feed(Feed::Page(fleet())), Next::GoOn);
}
