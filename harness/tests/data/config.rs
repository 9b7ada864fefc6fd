//! `[data]` of a suite: what is accepted, what is refused and how, and the protocol id.

use harness::data::{DataConfig, DatasetName, open};
use harness::exit::{Code, code_of};

const STILLS: &str = "dataset = 'cifar10'\nsplit = 'official'\nsize = 32\naugment = ['crop4', 'flip']";
const EVENTS: &str = "dataset = 'cifar10-dvs'\nsplit = 'last100'\nintegration = 'number'\nsize = 48\n\
                      resize = 'nearest'\nper-frame-max = true\naugment = ['flip', 'roll5']";

fn parse(text: &str) -> Result<DataConfig, toml::de::Error> {
    toml::from_str(text)
}

#[test]
fn a_wrong_name_is_refused_with_the_nearest_right_one() {
    for (text, expected) in [
        (STILLS.replace("cifar10", "cifar-10"), "unknown data set `cifar-10`; did you mean `cifar10`?"),
        (STILLS.replace("official", "oficial"), "unknown split `oficial`; did you mean `official`?"),
        (STILLS.replace("flip", "flipp"), "unknown augmentation `flipp`; did you mean `flip`?"),
        (STILLS.replace("crop4", "crop0"), "unknown augmentation `crop0`"),
        (EVENTS.replace("number", "numbers"), "unknown integration `numbers`; did you mean `number`?"),
        (EVENTS.replace("nearest", "neerest"), "unknown resize `neerest`; did you mean `nearest`?"),
        (EVENTS.replace("last100", "last1000"), "unknown split `last1000`"),
        (format!("{STILLS}\nresise = 1"), "unknown field `resise`"),
        ("dataset = 'cifar10'\nsplit = 'official'\naugment = []".into(), "missing field `size`"),
    ] {
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} lacks `{expected}`");
    }
}

#[test]
fn what_cannot_be_opened_is_refused_as_usage_with_the_key_to_change() {
    let with = |text: &str, from: &str, to: &str| text.replace(from, to);
    for (text, expected) in [
        (with(STILLS, "official", "last100"), "`split = \"last100\"` is not one of its splits; use `official`"),
        (with(EVENTS, "last100", "official"), "use `last100`, `tebn`, `first700` or `random@<seed>`"),
        (with(STILLS, "size = 32", "size = 16"), "`size = 16` must be 32 to 32"),
        (with(STILLS, "'flip'", "'roll2'"), "augmentation `roll2` is for event data"),
        (with(STILLS, "'flip'", "'random-resized-crop'"), "must be the first augmentation"),
        (with(STILLS, "'flip'", "'crop4'"), "`augment` lists `crop4` twice"),
        (format!("{STILLS}\nlimit = 0"), "`limit = 0` leaves no samples"),
        (format!("{STILLS}\nper-frame-max = true"), "are for event data"),
        (with(EVENTS, "integration = 'number'\n", ""), "event data needs `integration"),
        (with(EVENTS, "resize = 'nearest'\n", ""), "`size = 48` needs `resize"),
        (with(EVENTS, "nearest", "average"), "needs a `size` that divides 128, not 48"),
        (with(EVENTS, "size = 48", "size = 128"), "remove `resize`"),
        (with(EVENTS, "size = 48", "size = 0"), "`size = 0` must be 1 to 128"),
        (with(EVENTS, "size = 48", "size = 129"), "`size = 129` must be 1 to 128"),
        (with(EVENTS, "'flip'", "'cutout16'"), "augmentation `cutout16` is for still images"),
    ] {
        let error = parse(&text).unwrap().validate().unwrap_err();
        assert_eq!(code_of(&error), Code::Usage);
        assert!(error.to_string().contains(expected), "{error} lacks `{expected}`");
    }
    for time_steps in [None, Some(0)] {
        let error = open(&parse(EVENTS).unwrap(), time_steps, None, None).err().unwrap();
        assert_eq!(code_of(&error), Code::Usage, "{error}");
    }
}

#[test]
fn a_config_is_written_as_it_is_read() {
    for text in [STILLS, EVENTS] {
        let config = parse(text).unwrap();
        config.validate().unwrap();
        assert_eq!(parse(&toml::to_string(&config).unwrap()).unwrap(), config);
    }
}

#[test]
fn the_protocol_id_tells_apart_whatever_changes_the_result() {
    let id = |text: &str| parse(text).unwrap().protocol_id();
    assert_eq!(
        id(STILLS),
        "cifar10/official;md5:c32a1d4ab5d03f1284b67883e8d87530;size=32;augment=crop4+flip;selection=last"
    );
    let base = id(EVENTS);
    assert!(base.starts_with("cifar10-dvs/last100;md5s:"), "{base}");
    assert!(base.ends_with(";equal-number;size=48-nearest;per-frame-max;augment=flip+roll5;selection=last"), "{base}");
    for (from, to) in [
        ("last100", "tebn"),
        ("'number'", "'time'"),
        ("size = 48", "size = 64"),
        ("nearest", "average"),
        ("per-frame-max = true", "per-frame-max = false"),
        ("roll5", "roll2"),
        ("size = 48", "limit = 9\nsize = 48"),
    ] {
        assert_ne!(id(&EVENTS.replace(from, to)), base, "{from} → {to}");
    }
    for name in DatasetName::ALL {
        assert_eq!(name.as_str().parse::<DatasetName>().unwrap(), *name);
    }
}
