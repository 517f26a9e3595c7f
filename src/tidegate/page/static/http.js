// The page's backend where a server answers: see docs/page.md for the methods.

export class HttpBackend {
  constructor(base = "") {
    this.base = base;
    this.token = null; // of a server that asks for one; kept in this page's memory alone
  }

  async models() {
    return (await this.#ask("v1/models")).models;
  }

  async predict(texts, model, { signal } = {}) {
    return (await this.#ask("v1/predict", { texts, model }, signal)).results;
  }

  async explain(text, { model, label, signal }) {
    const body = { texts: [text], model };
    if (label !== null && label !== undefined) body.label = label;
    return (await this.#ask("v1/explain", body, signal)).results[0];
  }

  async trace(text, { model, signal }) {
    return (await this.#ask("v1/trace", { text, model }, signal)).layers;
  }

  async cell(text, { model, layer, direction, step, unit, signal }) {
    const body = { text, model, layer, direction, step, unit };
    return (await this.#ask("v1/cell", body, signal)).terms;
  }

  async #ask(path, body, signal) {
    const headers = { Accept: "application/json" };
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    if (body) headers["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(`${this.base}${path}`, {
        method: body ? "POST" : "GET",
        headers,
        body: body && JSON.stringify(body),
        signal,
        credentials: "omit",
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Error("the server does not answer; is it still running?", { cause: error });
    }
    let found;
    try {
      found = await response.json();
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Error(`the server's answer (status ${response.status}) is no JSON`, {
        cause: error,
      });
    }
    if (response.ok) return found;
    const message = found?.error?.message ?? `status ${response.status}`;
    throw Object.assign(new Error(String(message)), {
      status: response.status,
      code: found?.error?.code,
    });
  }
}
