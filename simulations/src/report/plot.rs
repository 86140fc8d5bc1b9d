//! Plots as SVG, in colours that people tell apart who see fewer of them, with other marks and dashes for each line. *Pure.*

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;

/// Width and height, of which a page shows two thirds on a small screen.
const SIZE: (u32, u32) = (900, 520);
const FONT: u32 = 20;
/// Of a line between two of its points so many places are looked at, for where the names of the lines may stand.
const BETWEEN: u32 = 16;
/// Okabe and Ito, "Color Universal Design" (2008).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// A plot.
#[derive(Clone, Debug)]
pub struct Plot {
    /// Of the file, behind the name of the chapter.
    pub name: &'static str,
    /// What it shows.
    pub caption: String,
    /// The lower axis.
    pub x: Axis,
    /// The left axis.
    pub y: Axis,
    /// What is drawn.
    pub lines: Vec<Line>,
}

/// An axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it says, with its unit.
    pub label: String,
    /// Whether steps of the same width multiply by the same.
    pub logarithmic: bool,
}

impl Axis {
    /// Steps of the same width add the same.
    pub fn linear(label: &str) -> Self {
        Self { label: label.to_owned(), logarithmic: false }
    }

    /// Steps of the same width multiply by the same; what is not above 0 is not shown.
    pub fn logarithmic(label: &str) -> Self {
        Self { label: label.to_owned(), logarithmic: true }
    }

    fn place(&self, value: f64) -> Option<f64> {
        let place = if self.logarithmic { value.log10() } else { value };
        place.is_finite().then_some(place)
    }

    /// What stands at a tick.
    fn tick(&self, place: f64) -> String {
        let value = if self.logarithmic { 10_f64.powf(place) } else { place };
        let text = format!("{value:.5}");
        grouped(text.trim_end_matches('0').trim_end_matches('.'))
    }

    /// Where ticks stand: at powers of ten, with twice and five times these where they are few; else, and where these are few
    /// too, at round steps, about eight of them.
    fn ticks(&self, range: &Range<f64>) -> Vec<f64> {
        let within = |place: &f64| range.contains(place);
        if self.logarithmic {
            let decades = || (-9..=12).map(f64::from);
            let powers: Vec<f64> = decades().filter(within).collect();
            let more = decades().flat_map(|power| [1.0, 2.0, 5.0].map(|times: f64| power + times.log10()));
            let more: Vec<f64> = if powers.len() > 2 { powers } else { more.filter(within).collect() };
            if more.len() > 2 {
                return more;
            }
            let values = 10_f64.powf(range.start)..10_f64.powf(range.end);
            return steps(&values).into_iter().map(f64::log10).filter(within).collect();
        }
        steps(range)
    }

    /// Somewhat more than from the least to the greatest; from 0 where steps add, as lengths are compared by eye.
    fn range(&self, values: impl Iterator<Item = f64>) -> Range<f64> {
        let (least, greatest) = values
            .fold((f64::MAX, f64::MIN), |(least, greatest), value| (least.min(value), greatest.max(value)));
        if least > greatest {
            return 0.0..1.0;
        }
        if self.logarithmic {
            return (least - 0.1)..(greatest + 0.1);
        }
        let least = least.min(0.0);
        least..(greatest + (greatest - least).max(1e-9) * 0.08)
    }
}

/// Round steps within a range, about eight.
fn steps(range: &Range<f64>) -> Vec<f64> {
    let rough = (range.end - range.start) / 8.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    let first = (range.start / step).ceil();
    (0..=10).map(|count| (first + f64::from(count)) * step).filter(|place| range.contains(place)).collect()
}

/// Digits in threes.
fn grouped(digits: &str) -> String {
    let (whole, rest) = digits.split_once('.').map_or((digits, ""), |(whole, rest)| (whole, rest));
    let count = whole.len();
    let grouped: String = whole
        .char_indices()
        .flat_map(|(index, digit)| {
            let comma = index > 0 && (count - index) % 3 == 0;
            comma.then_some(',').into_iter().chain(std::iter::once(digit))
        })
        .collect();
    if rest.is_empty() { grouped } else { format!("{grouped}.{rest}") }
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub struct Line {
    /// What they are.
    pub label: String,
    /// Where they are.
    pub points: Vec<(f64, f64)>,
    /// How they are drawn.
    pub shape: Shape,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Marks, and a line between them.
    Joined,
    /// Marks alone: points that are in no order.
    Marks,
    /// A line alone.
    Plain,
    /// A dashed line: a prediction, a bound.
    Dashed,
}

impl Plot {
    /// The plot as a document of its own, that may stand in a page as it is.
    pub fn svg(&self) -> String {
        let mut svg = String::new();
        // Text in memory: nothing can fail but the plot itself, of which the page then says so.
        match self.draw(&mut svg) {
            Ok(()) => svg,
            Err(why) => format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"900\" height=\"40\"><text y=\"20\">no plot: {}</text></svg>",
                why.replace(['<', '&'], " ")
            ),
        }
    }

    fn draw(&self, svg: &mut String) -> Result<(), String> {
        let lines: Vec<Vec<(f64, f64)>> = self
            .lines
            .iter()
            .map(|line| {
                let place = |(x, y): &(f64, f64)| self.x.place(*x).zip(self.y.place(*y));
                line.points.iter().filter_map(place).collect()
            })
            .collect();
        let all = || lines.iter().flatten();
        let (x, y) = (self.x.range(all().map(|point| point.0)), self.y.range(all().map(|point| point.1)));
        let marked = self.lines.iter().zip(&lines).flat_map(|(line, points)| line.passes(points));
        let corner = free_corner(marked, &x, &y);
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(|why| why.to_string())?;
        let mut chart = ChartBuilder::on(&area)
            .margin(14)
            // Half of a number may stand out at the last tick.
            .margin_right(48)
            .x_label_area_size(58)
            .y_label_area_size(84)
            .build_cartesian_2d(
                Ticked { ticks: self.x.ticks(&x), range: x },
                Ticked { ticks: self.y.ticks(&y), range: y },
            )
            .map_err(|why| why.to_string())?;
        let text = || ("sans-serif", FONT).into_font().color(&BLACK);
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(215, 215, 215))
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .x_label_style(text())
            .y_label_style(text())
            .axis_desc_style(text())
            .x_label_formatter(&|place| self.x.tick(*place))
            .y_label_formatter(&|place| self.y.tick(*place))
            .draw()
            .map_err(|why| why.to_string())?;
        for (index, (line, points)) in self.lines.iter().zip(lines).enumerate() {
            draw_line(&mut chart, index, line, points)?;
        }
        chart
            .configure_series_labels()
            .position(corner)
            .background_style(WHITE.mix(0.85))
            .border_style(RGBColor(120, 120, 120))
            .label_font(text())
            .draw()
            .map_err(|why| why.to_string())?;
        area.present().map_err(|why| why.to_string())
    }
}

impl Line {
    /// Its points, and some between them where it is drawn as a line.
    fn passes(&self, points: &[(f64, f64)]) -> Vec<(f64, f64)> {
        if self.shape == Shape::Marks {
            return points.to_vec();
        }
        let between = |pair: &[(f64, f64)]| {
            let [from, to] = [pair[0], pair[1]];
            (0..BETWEEN).map(move |step| {
                let share = f64::from(step) / f64::from(BETWEEN);
                (from.0 + (to.0 - from.0) * share, from.1 + (to.1 - from.1) * share)
            })
        };
        points.windows(2).flat_map(between).chain(points.last().copied()).collect()
    }
}

/// The corner with the fewest points, for the names of the lines.
fn free_corner(
    points: impl Iterator<Item = (f64, f64)>,
    x: &Range<f64>,
    y: &Range<f64>,
) -> SeriesLabelPosition {
    let (middle_x, middle_y) = ((x.start + x.end) / 2.0, (y.start + y.end) / 2.0);
    let mut counts = [0_usize; 4];
    for (x, y) in points {
        counts[usize::from(x > middle_x) + 2 * usize::from(y < middle_y)] += 1;
    }
    let corners = [
        SeriesLabelPosition::UpperLeft,
        SeriesLabelPosition::UpperRight,
        SeriesLabelPosition::LowerLeft,
        SeriesLabelPosition::LowerRight,
    ];
    let fewest = corners.into_iter().zip(counts).min_by_key(|(_, count)| *count);
    fewest.map_or(SeriesLabelPosition::UpperLeft, |(corner, _)| corner)
}

/// Places from the begin of an axis to its end, with ticks where we want them.
struct Ticked {
    range: Range<f64>,
    ticks: Vec<f64>,
}

impl Ranged for Ticked {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    #[expect(clippy::cast_possible_truncation, reason = "pixels")]
    fn map(&self, place: &f64, (begin, end): (i32, i32)) -> i32 {
        let share = (place - self.range.start) / (self.range.end - self.range.start);
        begin + (f64::from(end - begin) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Ticked, Ticked>>;

fn draw_line(
    chart: &mut Chart<'_, '_>,
    index: usize,
    line: &Line,
    points: Vec<(f64, f64)>,
) -> Result<(), String> {
    let colour = COLOURS[index % COLOURS.len()];
    let style = colour.stroke_width(3);
    let drawn = match line.shape {
        Shape::Dashed => chart.draw_series(DashedLineSeries::new(points.clone(), 10, 7, style)),
        Shape::Joined | Shape::Plain => chart.draw_series(LineSeries::new(points.clone(), style)),
        // Only for its name.
        Shape::Marks => chart.draw_series(LineSeries::new(Vec::new(), style)),
    };
    let series = drawn.map_err(|why| why.to_string())?.label(&line.label);
    let filled = colour.filled();
    // The same as in the plot.
    match (line.shape, index % 3) {
        (Shape::Marks, 0) => series.legend(move |(x, y)| Circle::new((x + 12, y), 6, filled)),
        (Shape::Marks, 1) => series.legend(move |(x, y)| TriangleMarker::new((x + 12, y), 8, filled)),
        (Shape::Marks, _) => series.legend(move |(x, y)| Cross::new((x + 12, y), 6, style)),
        (Shape::Dashed, _) => series.legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 12, y)], style)),
        (Shape::Joined | Shape::Plain, _) => {
            series.legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 24, y)], style))
        }
    };
    if !matches!(line.shape, Shape::Joined | Shape::Marks) {
        return Ok(());
    }
    // Another mark for each line.
    let points = points.into_iter();
    let drawn = match index % 3 {
        0 => chart.draw_series(points.map(|point| Circle::new(point, 6, filled))),
        1 => chart.draw_series(points.map(|point| TriangleMarker::new(point, 8, filled))),
        _ => chart.draw_series(points.map(|point| Cross::new(point, 6, style))),
    };
    drawn.map(|_| ()).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_its_words_its_lines_and_readable_ticks() {
        let line = |label: &str, shape| Line {
            label: label.to_owned(),
            points: vec![(1_000.0, 2.0), (10_000.0, 3.0), (100_000.0, 4.0)],
            shape,
        };
        let plot = Plot {
            name: "hops",
            caption: String::new(),
            x: Axis::logarithmic("nodes"),
            y: Axis::linear("hops"),
            lines: vec![line("model", Shape::Joined), line("predicted", Shape::Dashed)],
        };
        let svg = plot.svg();
        for has in ["nodes", "hops", "model", "predicted", "100,000", "#0072B2", "#D55E00", "<circle"] {
            assert!(svg.contains(has), "{has} in {svg}");
        }
        assert!(!svg.contains("no plot"));
    }

    #[test]
    fn the_names_stand_where_no_line_passes() {
        let line = Line { label: String::new(), points: vec![(0.0, 0.0), (0.9, 1.0)], shape: Shape::Plain };
        let upright = Line { points: vec![(1.0, 0.0), (1.0, 1.0)], shape: Shape::Dashed, ..line.clone() };
        let passed = [line, upright].into_iter().flat_map(|line| line.passes(&line.points));
        let corner = free_corner(passed, &(0.0..1.0), &(0.0..1.0));
        assert!(matches!(corner, SeriesLabelPosition::UpperLeft), "{corner:?}");
    }

    #[test]
    fn what_cannot_be_placed_is_left_out_and_nothing_at_all_is_an_empty_plot() {
        let points = vec![(0.0, 1.0), (f64::NAN, 2.0), (10.0, 3.0)];
        let line = Line { label: "it".to_owned(), points, shape: Shape::Joined };
        let plot = |lines| Plot {
            name: "it",
            caption: String::new(),
            x: Axis::logarithmic("x"),
            y: Axis::linear("y"),
            lines,
        };
        let svg = plot(vec![line]).svg();
        assert_eq!(svg.matches("<circle").count(), 1, "{svg}");
        assert!(plot(Vec::new()).svg().contains("</svg>"));
        let places = [-2.0, 1.0, 5_f64.log10(), 6.0];
        assert_eq!(places.map(|place| plot(Vec::new()).x.tick(place)), ["0.01", "10", "5", "1,000,000"]);
        assert_eq!(Axis::linear("").ticks(&(0.0..4.1)), [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(Axis::logarithmic("").ticks(&(2.9..5.1)), [3.0, 4.0, 5.0]);
        assert_eq!(Axis::logarithmic("").ticks(&(-0.1..0.8)).len(), 3, "1, 2, 5");
        let short = Axis::logarithmic("").ticks(&(1.5_f64.log10()..3.0_f64.log10()));
        assert!((6..=9).contains(&short.len()), "1.6, 1.8, …: {short:?}");
        assert_eq!(grouped("1234567"), "1,234,567");
    }
}
