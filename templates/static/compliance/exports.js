// Keeps the list of exports current while one is being prepared.
"use strict";

(() => {
  const form = () => document.querySelector("#changelist-form");

  const refresh = async () => {
    if (document.hidden) return setTimeout(refresh, 2000);
    try {
      const response = await fetch(location.href, { headers: { "X-Refresh": "1" } });
      if (!response.ok || response.redirected) return; // signed out: a reload tells
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const fresh = page.querySelector("#changelist-form");
      const typing = form()?.contains(document.activeElement);
      if (fresh && form() && !typing) form().replaceWith(document.adoptNode(fresh));
      if (!page.querySelector("script[src*='compliance/exports']")) return;
    } catch {
      // The server is restarting; the next try tells.
    }
    setTimeout(refresh, 2000);
  };
  setTimeout(refresh, 2000);
})();
