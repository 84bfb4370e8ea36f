use super::*;

fn declaration(name: &str, kind: Kind, labels: &[&str]) -> Declaration {
    Declaration {
        name: name.to_owned(),
        help: "Something".to_owned(),
        unit: None,
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        kind,
    }
}

fn table(most_series: usize) -> Table {
    Table::new("irc", "test", most_series, Arc::default())
}

fn values(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn one(table: &Table, name: &str) -> Option<Value> {
    let snapshot = table.snapshot(Gauges::True);
    let (_, series) = snapshot
        .families
        .into_iter()
        .find(|(about, _)| about.name == name)?;
    series.into_iter().next().map(|(_, value)| value)
}

#[test]
fn a_plugin_cannot_take_the_names_of_others() {
    for (plugin, expected) in [
        ("irc", "irc"),
        ("my-Mail.2", "my_mail_2"),
        ("nethost", "plugin_nethost"),
        ("nethost-x", "plugin_nethost_x"),
        ("process", "plugin_process"),
        ("up", "plugin_up"),
        ("7z", "plugin_7z"),
        ("", "plugin_"),
        ("grün", "gr_n"),
        ("nethosts", "nethosts"),
    ] {
        assert_eq!(prefix(plugin), expected);
    }
}

#[test]
fn names_help_labels_and_buckets_are_checked() {
    let long = "x".repeat(METRIC_NAME + 1);
    for name in [
        "",
        "A",
        "1x",
        "a-b",
        "a:b",
        "_a",
        "gr\u{fc}n",
        "a_total",
        "x_bucket",
        &long,
    ] {
        let table = table(10);
        let declared = table.declare(declaration(name, Kind::Gauge, &[]));
        assert!(matches!(declared, Err(MetricError::Invalid(_))), "{name}");
    }
    let many: Vec<_> = (0..=METRIC_LABELS).map(|it| format!("l{it}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    for labels in [
        &["service"][..],
        &["le"],
        &["a", "a"],
        &["__a"],
        &["A"],
        &many,
    ] {
        let table = table(10);
        let declared = table.declare(declaration("x", Kind::Gauge, labels));
        assert!(
            matches!(declared, Err(MetricError::Invalid(_))),
            "{labels:?}"
        );
    }
    let nan = f64::NAN;
    for bounds in [
        &[][..],
        &[1.0, 1.0],
        &[2.0, 1.0],
        &[nan],
        &[1.0, f64::INFINITY],
    ] {
        let table = table(10);
        let kind = Kind::Histogram(bounds.to_vec());
        let declared = table.declare(declaration("x", kind, &[]));
        assert!(
            matches!(declared, Err(MetricError::Invalid(_))),
            "{bounds:?}"
        );
    }
    for help in ["", " \n", &"x".repeat(METRIC_HELP + 1)] {
        let mut declaration = declaration("x", Kind::Gauge, &[]);
        declaration.help = help.to_owned();
        assert!(table(10).declare(declaration).is_err());
    }
}

#[test]
fn a_declaration_is_taken_where_the_fake_of_the_sdk_takes_it() {
    let cases = include_str!("../../../../sdk/rust/src/testing/metric-declarations.txt");
    for case in cases.lines() {
        let fields: Vec<_> = case.split(' ').collect();
        let [verdict, name, unit, labels, bounds] = fields[..] else {
            panic!("five fields: {case}");
        };
        let list = |text: &str| match text {
            "-" => Vec::new(),
            some => some.split(',').map(str::to_owned).collect(),
        };
        let name = match name.strip_suffix("-letters") {
            Some(count) => "x".repeat(count.parse().unwrap()),
            None => name.to_owned(),
        };
        let bounds = list(bounds);
        let bounds: Vec<f64> = bounds.iter().map(|it| it.parse().unwrap()).collect();
        let declared = table(10).declare(Declaration {
            name,
            help: "Help".to_owned(),
            unit: list(unit).pop(),
            labels: list(labels),
            kind: if bounds.is_empty() {
                Kind::Gauge
            } else {
                Kind::Histogram(bounds)
            },
        });
        assert_eq!(declared.is_ok(), verdict == "accepted", "{case}");
    }
}

#[test]
fn the_unit_is_part_of_the_name_once() {
    for (name, expected) in [
        ("received", "irc_received_bytes"),
        ("received_bytes", "irc_received_bytes"),
        ("bytes", "irc_bytes"),
    ] {
        let table = table(10);
        let mut declaration = declaration(name, Kind::Counter, &[]);
        declaration.unit = Some("bytes".to_owned());
        assert_eq!(table.declare(declaration).unwrap().about.name, expected);
    }
}

#[test]
fn a_metric_is_declared_once_or_in_the_same_words() {
    let table = table(10);
    let first = table.declare(declaration("x", Kind::Gauge, &["a"]));
    let again = table.declare(declaration("x", Kind::Gauge, &["a"]));
    assert!(Rc::ptr_eq(&first.unwrap(), &again.unwrap()));
    let other = table.declare(declaration("x", Kind::Gauge, &["b"]));
    assert_eq!(other.unwrap_err(), MetricError::Exists("irc_x".to_owned()));
    let histogram = Kind::Histogram(vec![1.0]);
    assert!(table.declare(declaration("x", histogram, &["a"])).is_err());
}

#[test]
fn there_are_only_so_many_metrics() {
    let table = table(10);
    for number in 0..METRICS {
        let declaration = declaration(&format!("x{number}"), Kind::Gauge, &[]);
        table.declare(declaration).unwrap();
    }
    let last = table.declare(declaration("y", Kind::Gauge, &[]));
    assert_eq!(last.unwrap_err(), MetricError::TooMany);
    assert_eq!(table.meters.limits.value(Limit::Metrics), 1);
}

#[test]
fn series_over_the_limit_share_one() {
    let table = table(3);
    let family = table
        .declare(declaration("x", Kind::Counter, &["who"]))
        .unwrap();
    for number in 0..10 {
        let series = table.series(&family, &values(&[&number.to_string()]));
        series.unwrap().count(1);
    }
    // One that is there stays reachable.
    table.series(&family, &values(&["0"])).unwrap().count(5);
    let snapshot = table.snapshot(Gauges::True);
    let mut counts: Vec<_> = snapshot.families[0]
        .1
        .iter()
        .map(|(labels, value)| (labels[0].to_string(), value.clone()))
        .collect();
    counts.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(
        counts,
        [
            ("(overflow)".to_owned(), Value::Counter(7)),
            ("0".to_owned(), Value::Counter(6)),
            ("1".to_owned(), Value::Counter(1)),
            ("2".to_owned(), Value::Counter(1)),
        ]
    );
    assert_eq!(table.meters.limits.value(Limit::Metrics), 7);
}

#[test]
fn a_series_has_as_many_values_as_labels_and_long_ones_are_cut() {
    let table = table(10);
    let family = table
        .declare(declaration("x", Kind::Counter, &["who"]))
        .unwrap();
    assert!(table.series(&family, &[]).is_none());
    assert!(table.series(&family, &values(&["a", "b"])).is_none());
    let long = "é".repeat(METRIC_LABEL_VALUE);
    table.series(&family, &values(&[&long])).unwrap();
    let snapshot = table.snapshot(Gauges::True);
    assert_eq!(snapshot.families[0].1[0].0[0].len(), METRIC_LABEL_VALUE);
}

#[test]
fn values_that_print_alike_are_one_series() {
    let table = table(10);
    let family = table
        .declare(declaration("x", Kind::Counter, &["who"]))
        .unwrap();
    for value in ["a\u{1}", "a\u{2}", "a\u{fffd}", "a\n"] {
        let series = table.series(&family, &values(&[value]));
        series.unwrap().count(1);
    }
    let mut told = table.snapshot(Gauges::True).families[0].1.clone();
    told.sort_by(|(one, _), (other, _)| one.cmp(other));
    let told: Vec<_> = told
        .iter()
        .map(|(labels, value)| (&*labels[0], value.clone()))
        .collect();
    let expected = [("a\n", Value::Counter(1)), ("a\u{fffd}", Value::Counter(3))];
    assert_eq!(told, expected);
    // What takes the place of a character is longer than it.
    let long = "\u{1}".repeat(METRIC_LABEL_VALUE);
    assert!(clean(&long).len() <= METRIC_LABEL_VALUE);
}

#[test]
fn no_series_loses_its_place_to_the_one_that_others_share() {
    let old = table(3);
    let family = |table: &Table| {
        let declaration = declaration("x", Kind::Counter, &["who"]);
        table.declare(declaration).unwrap()
    };
    let counted = |table: &Table| {
        let mut told = table.snapshot(Gauges::True).families;
        told.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        let mut told: Vec<_> = told.into_iter().flat_map(|(_, series)| series).collect();
        told.sort_by(|(one, _), (other, _)| one.cmp(other));
        told
    };
    for who in ["a", "b", "c", "d", "e"] {
        let series = old.series(&family(&old), &values(&[who]));
        series.unwrap().count(1);
    }
    let alone = old.declare(declaration("y", Kind::Counter, &[])).unwrap();
    old.series(&alone, &[]).unwrap().count(7);
    // In which order they go over is left to chance.
    for _ in 0..20 {
        let new = table(3);
        new.succeed(&old, Succession::Replaced);
        assert_eq!(counted(&new), counted(&old));
    }
}

#[test]
fn a_value_that_is_not_recorded_is_nothing_that_the_new_version_said() {
    let make = || {
        let table = table(10);
        let family = table.declare(declaration("g", Kind::Gauge, &[])).unwrap();
        let series = table.series(&family, &[]).unwrap();
        (table, series)
    };
    let ((old, before), (new, after)) = (make(), make());
    assert!(before.set(3.0) && !after.set(f64::NAN));
    new.succeed(&old, Succession::Swapped);
    assert_eq!(one(&new, "irc_g"), Some(Value::Gauge(3.0)));
}

#[test]
fn what_cannot_be_summed_is_not_recorded() {
    let gauge = Series::new(&Kind::Gauge);
    assert!(gauge.set(2.0) && gauge.add(0.5));
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(!gauge.set(value) && !gauge.add(value));
    }
    assert_eq!(gauge.value(), Value::Gauge(2.5));
    assert!(gauge.set(f64::MAX) && !gauge.add(f64::MAX));
    let histogram = Series::new(&Kind::Histogram(vec![1.0, 2.0]));
    for value in [0.5, 1.0, 1.5, 3.0] {
        assert!(histogram.observe(value));
    }
    for value in [f64::NAN, f64::INFINITY, -0.5] {
        assert!(!histogram.observe(value));
    }
    let expected = Value::Histogram {
        bounds: vec![1.0, 2.0],
        counts: vec![2, 1, 1],
        sum: 6.0,
    };
    assert_eq!(histogram.value(), expected);
    let counter = Series::new(&Kind::Counter);
    counter.count(u64::MAX);
    counter.count(1);
    assert_eq!(counter.value(), Value::Counter(u64::MAX));
}

#[test]
fn counters_go_on_and_gauges_end_with_a_broken_instance() {
    let make = || {
        let table = table(10);
        let kinds = [
            ("c", Kind::Counter),
            ("g", Kind::Gauge),
            ("h", Kind::Histogram(vec![1.0])),
        ];
        let [c, g, h] = kinds.map(|(name, kind)| {
            let family = table.declare(declaration(name, kind, &[])).unwrap();
            table.series(&family, &[]).unwrap()
        });
        (table, c, g, h)
    };
    let (old, c, g, h) = make();
    c.count(3);
    g.set(3.0);
    h.observe(3.0);
    let histogram = |above| Value::Histogram {
        bounds: vec![1.0],
        counts: vec![0, above],
        sum: 3.0 * above as f64,
    };
    for (how, gauge) in [(Succession::Replaced, 0.0), (Succession::Swapped, 3.0)] {
        let (new, c, _, h) = make();
        c.count(1);
        h.observe(3.0);
        new.succeed(&old, how);
        assert_eq!(one(&new, "irc_c"), Some(Value::Counter(4)));
        assert_eq!(one(&new, "irc_g"), Some(Value::Gauge(gauge)));
        assert_eq!(one(&new, "irc_h"), Some(histogram(2)));
    }
    // What the new version says itself is true.
    let (new, _, g, _) = make();
    g.add(1.0);
    new.succeed(&old, Succession::Swapped);
    assert_eq!(one(&new, "irc_g"), Some(Value::Gauge(1.0)));
    // A version that does not know a counter keeps it for the next one; a gauge that nobody sets says nothing.
    let new = table(10);
    new.succeed(&old, Succession::Swapped);
    assert_eq!(one(&new, "irc_c"), Some(Value::Counter(3)));
    assert_eq!(one(&new, "irc_g"), None);
    assert_eq!(one(&old, "irc_g"), Some(Value::Gauge(3.0)));
    assert!(old.snapshot(Gauges::Gone).families.len() == 2);
}
