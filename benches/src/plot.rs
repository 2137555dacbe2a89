//! Groups of bars as SVG, on a logarithmic scale: what is twice as fast is as far apart everywhere.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// What to draw.
pub(crate) struct Bars<'b> {
    pub(crate) title: &'b str,
    /// A group of bars each.
    pub(crate) groups: &'b [&'b str],
    /// A bar in each group, where there is one.
    pub(crate) series: &'b [(&'b str, Vec<Option<f64>>)],
    /// A line to stay under.
    pub(crate) limit: Option<f64>,
}

/// Okabe and Ito's colours, which all can tell apart.
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(153, 153, 153),
];

const SIZE: (u32, u32) = (960, 400);
const FONT: &str = "sans-serif";

pub(crate) fn draw(bars: &Bars<'_>, path: &Path) -> Result<(), Box<dyn Error>> {
    let values = || bars.series.iter().flat_map(|(_, values)| values.iter().flatten().copied()).chain(bars.limit);
    let (least, most) = values().fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)));
    if least > most {
        return Err("there is nothing to draw".into());
    }
    let floor = least * 0.8;
    // Room for the legend above the bars.
    let top = most * (most / floor).powf(0.4);
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let groups = bars.groups.len() as f64;
    let mut chart = ChartBuilder::on(&area)
        .caption(bars.title, (FONT, 16))
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..groups, (floor..top).log_scale())?;
    let number = |value: &f64| if *value >= 10.0 { format!("{value:.0}") } else { format!("{value:.1}") };
    chart.configure_mesh().disable_x_mesh().disable_x_axis().y_labels(6).y_label_formatter(&number).draw()?;
    let width = 0.84 / bars.series.len() as f64;
    for (index, (name, values)) in bars.series.iter().enumerate() {
        let style = COLOURS[index % COLOURS.len()].filled();
        let bar = |(group, value): (usize, &Option<f64>)| {
            let left = group as f64 + 0.08 + width * index as f64;
            value.map(|value| Rectangle::new([(left, floor), (left + width * 0.9, value)], style))
        };
        let drawn = chart.draw_series(values.iter().enumerate().filter_map(bar))?;
        drawn.label(*name).legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], style));
    }
    if let Some(limit) = bars.limit {
        let line = chart.draw_series([PathElement::new([(0.0, limit), (groups, limit)], RED)])?;
        line.label("target").legend(|(x, y)| PathElement::new([(x, y), (x + 10, y)], RED));
    }
    let centred = (FONT, 12).into_font().color(&BLACK).pos(Pos::new(HPos::Center, VPos::Top));
    let labels = bars.groups.iter().enumerate().map(|(group, name)| {
        EmptyElement::at((group as f64 + 0.5, floor)) + Text::new((*name).to_owned(), (0, 6), centred.clone())
    });
    chart.draw_series(labels)?;
    let mut legend = chart.configure_series_labels();
    legend.position(SeriesLabelPosition::UpperRight).label_font((FONT, 12)).background_style(WHITE.mix(0.8)).draw()?;
    area.present()?;
    Ok(())
}
