import { byId, request } from "./dom.js";

byId("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = byId("password");
  try {
    await request("POST", "/login", { password: field.value });
    location.replace("/");
  } catch (error) {
    byId("login-error").textContent = error.message;
    field.select();
  }
});
