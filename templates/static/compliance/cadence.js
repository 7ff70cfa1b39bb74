// Shows only the fields that a cadence's pattern uses. A field with an error stays in sight.
"use strict";

(() => {
  const USED = { every: ["every_minutes", "window_start", "window_end"], daily: ["at"] };

  const show = (select) => {
    const cadence = select.closest(".inline-related");
    for (const [pattern, fields] of Object.entries(USED)) {
      for (const name of fields) {
        const box = cadence.querySelector(`.fieldBox.field-${name}`);
        if (box) box.parentElement.hidden = pattern !== select.value && !box.matches(".errors");
      }
    }
  };
  const showAll = (root) => root.querySelectorAll("select[name$=-pattern]").forEach(show);

  document.addEventListener("change", (event) => {
    if (event.target.matches("select[name$=-pattern]")) show(event.target);
  });
  document.addEventListener("formset:added", (event) => showAll(event.target));
  showAll(document);
})();
