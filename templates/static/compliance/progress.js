// Keeps counts current while something is on its way: a message's deliveries, an import's rows.
"use strict";

(() => {
  const panel = document.querySelector("[data-progress-url]");
  if (!panel || panel.dataset.final === "yes") return;
  const counts = panel.querySelector(".progress-counts");

  const show = (progress) => {
    counts.replaceChildren(
      ...progress.counts.flatMap((row) => {
        const badge = document.createElement("span");
        badge.className = `badge badge-${row.state}`;
        badge.textContent = `${row.label}: ${row.count}`;
        const link = document.createElement("a");
        link.href = row.url;
        link.append(badge);
        return [link, " "];
      }),
    );
    const state = document.querySelector(".field-state_badge .badge");
    if (state) {
      state.className = `badge badge-${progress.state}`;
      state.textContent = progress.label;
    }
  };

  const refresh = async () => {
    if (document.hidden) return setTimeout(refresh, 2000);
    try {
      const response = await fetch(panel.dataset.progressUrl, { headers: { Accept: "application/json" } });
      if (!response.ok) return; // signed out, or the message is gone: a reload tells
      const progress = await response.json();
      show(progress);
      if (progress.final) return;
    } catch {
      // The server is restarting; the next try tells.
    }
    setTimeout(refresh, 1500);
  };
  setTimeout(refresh, 1000);
})();
