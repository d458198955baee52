// The grid as a Plotly picture to take away: the Python figure with what the page shows in it.

charts.grid = () => {
  const {
      data: [cellTrace, hatchTrace],
      layout,
    } = structuredClone(data.figures.grid),
    wide = data.heads.length;
  const metric = metrics[state.metric];
  const limit = schemes[state.scheme].ranges[state.metric];
  const all = cells.map((element, head) => ({
    head,
    klass: shownClass(head),
    text: [...element.children].map((part) => plain(part.textContent)),
  }));
  const plane = (read) => data.layers.map((_, i) => all.slice(i * wide, (i + 1) * wide).map(read));
  Object.assign(cellTrace, {
    z: plane(({ head, klass }) => (klass < 0 ? null : value(state.scheme, head, klass, state.metric))),
    text: plane(({ text: [name, number], head }) =>
      grid.dataset.room === "sign" ? cells[head].dataset.sign : name ? `${name}<br>${number}` : number,
    ),
    colorscale: stops(metric).map((rgb, i, list) => [i / (list.length - 1), `rgb(${rgb})`]),
    zmin: metric.signed ? metric.centre - limit : 0,
    zmax: metric.centre + limit,
    hovertext: null,
  });
  const covered = all.filter(({ head, klass }) => klass < 0 || indistinct(state.scheme, head, klass));
  Object.assign(hatchTrace, {
    x: covered.map(({ head }) => head % wide),
    y: covered.map(({ head }) => Math.floor(head / wide)),
  });
  const subject = chosenClass() < 0 ? "strongest class" : plain(state.class);
  const { text, panel } = paintBox();
  Object.assign(layout, {
    title: { text: `${plain(data.model)} · ${subject} · ${metric.title} (${metric.unit})` },
    height: 150 + 40 * data.layers.length,
    font: { ...layout.font, color: text },
    paper_bgcolor: panel,
    plot_bgcolor: panel,
  });
  return { data: [cellTrace, hatchTrace], layout };
};
