// The page as one file: the model is in it.

import { percent, plain } from "../dom.js";
import { startPage } from "../page.js";
import { LocalBackend } from "./local.js";

const content = (id) => document.getElementById(id).textContent;
const localBackend = new LocalBackend(JSON.parse(content("tidegate-model")), content("tidegate-weights"));
window.tidegate = localBackend; // for the browser's console: await tidegate.predict(["a text"])
startPage(localBackend).then(async () => {
  const { texts, largest } = await localBackend.check();
  const differs = largest < 1e-6 ? "less than 0.000001" : plain(largest, 6);
  document.getElementById("checked").textContent =
    `Checked on opening: ${texts} texts, largest difference from Python ${differs}` +
    (largest <= 1e-3 ? "." : ` (above 0.001: do not trust what this browser computes, ${percent(largest)} off).`);
});
