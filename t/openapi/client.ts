// A client that uses the generated types; tsc --strict takes it. The lines
// after @ts-expect-error must be mistakes.
import type { components, operations, paths } from "./usersync";

type Schemas = components["schemas"];
type Body<Op extends keyof operations, Status extends number> =
  operations[Op]["responses"] extends Record<Status, { content: infer C }>
    ? C[keyof C]
    : never;

export const wish: Schemas["RegisterRequest"] = {
  email: "ada@example.com",
  password: "correct horse 7",
  data: { full_name: "Ada" },
};
// @ts-expect-error: a password is needed
export const half: Schemas["LoginRequest"] = { email: "ada@example.com" };
// @ts-expect-error: no such scope
export const scope: Schemas["LogoutScope"] = "all";

export function tokenOf(reply: Body<"login", 200>): string {
  return reply.session.access_token;
}
export function userOf(reply: Body<"register", 200>): string {
  // @ts-expect-error: the session can be null
  return reply.session.user.id;
}
export function advice(problem: Body<"register", 502>): string {
  switch (problem.code) {
    case "outcome_unknown":
      return "log in first";
    case "upstream_bad_answer":
    case "upstream_rejected_key":
      return problem.detail;
  }
}
export function isFull(problem: Schemas["LogoutUnavailableProblem"]): boolean {
  // @ts-expect-error: logout does not write rows
  return problem.code === "store_unavailable" || problem.code === "busy";
}
export function fields(problem: Body<"login", 400>): string[] {
  return "errors" in problem ? problem.errors.map((e) => e.field) : [];
}
export const where: keyof paths = "/auth/refresh";
