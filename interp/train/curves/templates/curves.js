// Draw every panel; one choice of axis and of runs holds for all of them.

const { panels, titles } = JSON.parse(document.getElementById("data").textContent);
const boxes = [...document.querySelectorAll("[data-run]")];
const names = boxes.map((box) => box.dataset.run);
const config = {
  responsive: true,
  displaylogo: false,
  showSendToCloud: false,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
};

// Names in traces are escaped for Plotly, which reads markup; this undoes it.
const decoder = document.createElement("textarea");
function plain(text) {
  decoder.innerHTML = text;
  return decoder.value;
}

function draw(name) {
  const { data, layout, places, ranges } = panels[name];
  const axis = document.querySelector("[name=axis]:checked").value;
  const hidden = new Set(names.filter((_, i) => !boxes[i].checked));
  const { color, backgroundColor } = getComputedStyle(document.querySelector(".panel .chart").parentElement);
  const traces = data.map((trace, i) => ({
    ...trace,
    x: places[axis][i],
    visible: !hidden.has(plain(trace.legendgroup)),
  }));
  const xaxis = { ...layout.xaxis, title: { text: titles[axis] } };
  if (ranges[axis]) xaxis.range = ranges[axis];
  Plotly.react(
    name,
    traces,
    {
      ...structuredClone(layout),
      xaxis,
      uirevision: axis, // hiding a run keeps the zoom, another axis does not
      showlegend: false,
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
      paper_bgcolor: backgroundColor,
      plot_bgcolor: backgroundColor,
      font: { ...layout.font, color },
      hoverlabel: { bgcolor: backgroundColor, font: { color } },
    },
    config,
  );
}

const drawAll = () => Object.keys(panels).forEach(draw);
drawAll();
for (const input of document.querySelectorAll("input")) input.addEventListener("change", drawAll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
