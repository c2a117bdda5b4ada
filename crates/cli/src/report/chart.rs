//! Charts as SVG: lines, steps, bars and dots over a common x axis.

use anyhow::anyhow;
use plotters::prelude::*;

/// Size of a chart in pixels; the page scales it to its width.
const SIZE: (u32, u32) = (960, 300);

/// Height of the line above it that names its series.
const LEGEND: u32 = 24;

const FONT: &str = "sans-serif";

/// Colours that are told apart side by side, also by most who see few colours (Okabe and Ito), the clearest first.
const PALETTE: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];

const GRID: RGBColor = RGBColor(232, 234, 238);
const INK: RGBColor = RGBColor(70, 76, 86);
const FAINT: RGBColor = RGBColor(160, 172, 190);

/// What a chart shows.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    /// What runs to the right.
    pub(crate) x: Axis,
    /// What runs upwards, from 0.
    pub(crate) y: Axis,
    /// Drawn in this order.
    pub(crate) series: Vec<Series>,
    /// Vertical lines at moments that explain the rest.
    pub(crate) marks: Vec<f64>,
}

/// An axis.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    /// What it measures, with the unit.
    pub(crate) label: String,
    /// Shows at least up to this value.
    pub(crate) at_least: f64,
}

/// Numbers that belong together.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// Name in the legend; those without one are not listed.
    pub(crate) name: Option<String>,
    /// How they are drawn.
    pub(crate) shape: Shape,
    /// In which colour.
    pub(crate) colour: Colour,
    /// The numbers, with rising x.
    pub(crate) points: Vec<(f64, f64)>,
}

/// How numbers are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A line from one to the next.
    Line,
    /// A line that stays level up to the next.
    Step,
    /// A bar down to 0 for each.
    Bars,
    /// A dot for each.
    Dots,
}

/// Colours by role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// One of a few that are told apart.
    Of(usize),
    /// A limit, or one of many.
    Faint,
}

// === impl Colour ===

impl Colour {
    fn rgb(self) -> RGBColor {
        match self {
            Self::Of(index) => PALETTE.get(index % PALETTE.len()).copied().unwrap_or(INK),
            Self::Faint => FAINT,
        }
    }
}

// === impl Axis ===

impl Axis {
    pub(crate) fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), at_least: 0.0 }
    }
}

// === impl Chart ===

impl Chart {
    /// The chart as an SVG element.
    pub(crate) fn svg(&self) -> anyhow::Result<String> {
        let mut svg = String::new();
        let failed = |error: &dyn std::fmt::Display| anyhow!("failed to draw a chart: {error}");
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            self.draw(&area).map_err(|error| failed(&error))?;
            area.present().map_err(|error| failed(&error))?;
        }
        // The page decides how wide it is.
        let fixed = format!("width=\"{}\" height=\"{}\"", SIZE.0, SIZE.1);
        Ok(svg.replacen(&fixed, "width=\"100%\" role=\"img\"", 1))
    }

    fn draw(
        &self,
        area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    ) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let has_names = self.series.iter().any(|series| series.name.is_some());
        let (legend, area) = area.split_vertically(if has_names { LEGEND } else { 0 });
        self.draw_legend(&legend)?;
        let points = || self.series.iter().flat_map(|series| &series.points);
        let most = |axis: &Axis, of: fn(&(f64, f64)) -> f64| {
            points().map(of).fold(axis.at_least, f64::max).max(f64::MIN_POSITIVE)
        };
        let x_end = most(&self.x, |point| point.0).max(1.0);
        let y_end = nice_end(most(&self.y, |point| point.1));
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..x_end, 0.0..y_end)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(INK)
            .x_labels(13)
            .y_labels(6)
            .label_style((FONT, 13).into_font().color(&INK))
            .axis_desc_style((FONT, 14).into_font().color(&INK))
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .x_label_formatter(&|value| number(*value))
            .y_label_formatter(&|value| number(*value))
            .draw()?;
        for mark in &self.marks {
            let line = vec![(*mark, 0.0), (*mark, y_end)];
            let style = PALETTE[1].mix(0.6).stroke_width(1);
            chart.draw_series(DashedLineSeries::new(line, 4, 4, style))?;
        }
        for series in &self.series {
            series.draw(&mut chart)?;
        }
        Ok(())
    }

    fn draw_legend(
        &self,
        area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    ) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let font = (FONT, 13).into_font().color(&INK);
        let mut left = 74;
        for series in &self.series {
            let Some(name) = &series.name else { continue };
            let sample = [(left, 11), (left + 18, 15)];
            area.draw(&Rectangle::new(sample, series.colour.rgb().filled()))?;
            area.draw(&Text::new(name.as_str(), (left + 24, 6), font.clone()))?;
            // The page's font is not known here: no letter of most is wider.
            left += 48 + 7 * i32::try_from(name.chars().count()).unwrap_or_default();
        }
        Ok(())
    }
}

// === impl Series ===

/// The part of a chart between its axes.
type Canvas<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

impl Series {
    fn draw(
        &self,
        canvas: &mut Canvas<'_, '_>,
    ) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let colour = self.colour.rgb();
        let width = if self.colour == Colour::Faint { 1 } else { 2 };
        let stroke = colour.stroke_width(width);
        match self.shape {
            Shape::Line => {
                canvas.draw_series(LineSeries::new(self.points.iter().copied(), stroke))?;
            }
            Shape::Step => {
                canvas.draw_series(LineSeries::new(stepped(&self.points), stroke))?;
            }
            Shape::Bars => {
                let half = bar_width(&self.points) / 2.0;
                let bar = |(x, y): &(f64, f64)| {
                    let corners = [((x - half).max(0.0), 0.0), (x + half, *y)];
                    Rectangle::new(corners, colour.mix(0.85).filled())
                };
                canvas.draw_series(self.points.iter().map(bar))?;
            }
            Shape::Dots => {
                let dot = |point: &(f64, f64)| Circle::new(*point, 3, colour.mix(0.8).filled());
                canvas.draw_series(self.points.iter().map(dot))?;
            }
        }
        Ok(())
    }
}

/// Each level is held up to the next point.
fn stepped(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut steps = Vec::with_capacity(points.len() * 2);
    let mut level = None;
    for (x, y) in points {
        steps.extend(level.map(|level| (*x, level)));
        steps.push((*x, *y));
        level = Some(*y);
    }
    steps
}

fn bar_width(points: &[(f64, f64)]) -> f64 {
    let gaps = points.windows(2).map(|pair| pair[1].0 - pair[0].0);
    gaps.fold(f64::INFINITY, f64::min).clamp(0.05, 10.0) * 0.9
}

/// The end of an axis above the highest value, at 1, 2 or 5 times a power of ten in tenths.
fn nice_end(value: f64) -> f64 {
    let step = 10_f64.powf(value.log10().floor()) / 2.0;
    ((value * 1.04) / step).ceil() * step
}

/// A number without zeroes that say nothing.
fn number(value: f64) -> String {
    let text = if value.abs() < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") };
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short_and_axes_end_above_the_data() {
        assert_eq!([0.0, 0.5, 2.0, 12.0, 250.0].map(number), ["0", "0.5", "2", "12", "250"]);
        assert!(nice_end(19.3) > 24.9 && nice_end(19.3) < 25.1);
        assert!(nice_end(5.0) > 5.0);
    }

    #[test]
    fn levels_are_held() {
        assert_eq!(stepped(&[(0.0, 1.0), (2.0, 3.0)]), [(0.0, 1.0), (2.0, 1.0), (2.0, 3.0)]);
    }

    #[test]
    fn every_shape_is_drawn_also_without_points() {
        let series = |shape, points| Series { name: None, shape, colour: Colour::Of(0), points };
        let shapes = [Shape::Line, Shape::Step, Shape::Bars, Shape::Dots];
        for points in [vec![], vec![(0.0, 1.0), (1.0, 4.0)]] {
            let series = shapes.iter().map(|shape| series(*shape, points.clone())).collect();
            let (x, y) = (Axis::new("time [s]"), Axis::new("load [MB/s]"));
            let svg = Chart { x, y, series, marks: vec![0.5] }.svg().unwrap();
            assert!(svg.starts_with("<svg width=\"100%\"") && svg.contains("load [MB/s]"), "{svg}");
        }
    }

    #[test]
    fn series_with_names_are_listed() {
        let (x, y) = (Axis::new("time [s]"), Axis::new("load [MB/s]"));
        let series = |name: Option<&str>| Series {
            name: name.map(str::to_owned),
            shape: Shape::Line,
            colour: Colour::Of(0),
            points: vec![(0.0, 1.0)],
        };
        let series = vec![series(Some("written")), series(None), series(Some("read <1>"))];
        let svg = Chart { x, y, series, marks: Vec::new() }.svg().unwrap();
        let samples = svg.matches("height=\"4\"").count();
        assert!(svg.contains("written") && svg.contains("read &lt;1&gt;") && samples == 2, "{svg}");
    }
}
