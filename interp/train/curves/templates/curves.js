// One choice of axis and of runs holds for all panels.

const { titles } = chosen;
const boxes = [...document.querySelectorAll("[data-run]")];
const names = boxes.map((box) => box.dataset.run);

// Names in traces are escaped for Plotly, which reads markup; this undoes it.
const decoder = document.createElement("textarea");
function plain(text) {
  decoder.innerHTML = text;
  return decoder.value;
}

function drawCurves(name) {
  const { data, layout, places, ranges } = panels[name];
  const axis = document.querySelector("[name=axis]:checked").value;
  const log = document.getElementById("log").checked;
  const hidden = new Set(names.filter((_, i) => !boxes[i].checked));
  const traces = data.map((trace, i) => ({
    ...trace,
    x: places[axis][i],
    visible: !hidden.has(plain(trace.legendgroup)),
  }));
  const xaxis = { ...layout.xaxis, title: { text: titles[axis] }, type: log ? "log" : "linear" };
  if (ranges[axis]) xaxis.range = log ? ranges[axis].map(Math.log10) : ranges[axis];
  // hiding a run keeps the zoom, another axis does not
  drawPanel(name, { data: traces, layout: { ...layout, xaxis, uirevision: `${axis} ${log}`, showlegend: false } });
}

const drawAll = () => Object.keys(panels).forEach(drawCurves);
keepDrawn(drawAll);
for (const input of document.querySelectorAll("input")) input.addEventListener("change", drawAll);
