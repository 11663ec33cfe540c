//! A run that is replayed from its journal looks as it did live.

use stagewright_engine::{Event, Observer, Timestamp};
use stagewright_report::{Github, Json, Plain, RunView, frame, junit};

use crate::terminal::terminal;
use crate::{script, shown};

/// The events after a round trip through the journal's form.
fn recorded(events: &[Event]) -> Vec<Event> {
    let line = |event: &Event| serde_json::to_string(event).unwrap();
    let lines: Vec<String> = events.iter().map(line).collect();
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_replay_writes_the_same_bytes() {
    for (name, events) in script::ALL {
        let (live, again) = (events(), recorded(&events()));
        assert_eq!(shown(Plain::new, &live), shown(Plain::new, &again), "plain {name}");
        assert_eq!(shown(Json::new, &live), shown(Json::new, &again), "json {name}");
        assert_eq!(shown(Github::new, &live), shown(Github::new, &again), "github {name}");
        let (live, again) = (RunView::of(&live), RunView::of(&again));
        assert_eq!(junit(&live).unwrap(), junit(&again).unwrap(), "junit {name}");
        assert_eq!(live, again, "view {name}");
    }
}

#[test]
fn a_replay_shows_the_same_screens() {
    for (name, events) in script::ALL {
        let events = events();
        let (mut live, live_screen) = terminal(true, true);
        let (mut again, again_screen) = terminal(true, true);
        for (event, again_event) in events.iter().zip(&recorded(&events)) {
            live.on_event(event);
            // Only the live screen has ticks between events.
            (1..20).for_each(|tenth| live.tick(Timestamp(event.at.0 + tenth * 100)));
            live.tick(event.at);
            again.on_event(again_event);
            again.tick(event.at);
            assert_eq!(live_screen.contents_formatted(), again_screen.contents_formatted(), "{name}: {event:?}");
        }
    }
}

#[test]
fn frames_depend_only_on_events_and_the_time() {
    for (name, events) in script::ALL {
        let (mut live, mut again) = (RunView::default(), RunView::default());
        for (event, again_event) in events().iter().zip(recorded(&events())) {
            live.apply(event);
            again.apply(&again_event);
            for later in [0, 100, 59_950] {
                let now = Timestamp(event.at.0 + later);
                assert_eq!(frame(&live, now, 80, true), frame(&again, now, 80, true), "{name}: {event:?}");
            }
        }
    }
}
