"""The words of the news world. Every regulator, firm and figure in here is invented.

A story is a title and a summary with blanks. Each story is told once before any is told again, and then about
another sector and body, so that no two of the forty newest items share a title.
"""

import hashlib
from datetime import datetime, timedelta

_BODIES = (
    "Harbour Data Authority",
    "Northgate Financial Conduct Office",
    "Lakeside Privacy Commission",
    "Eastmere Cyber Security Board",
    "Summit Market Supervisor",
)
_SECTORS = (
    "online lenders",
    "logistics platforms",
    "private hospitals",
    "car makers",
    "payment firms",
    "cloud providers",
    "education apps",
    "insurers",
    "travel agencies",
    "recruitment portals",
    "smart-home vendors",
)
_STORIES = (
    (
        "{body} opens consultation on cross-border transfers by {sector}",
        "The draft asks for a transfer assessment before personal data of more than {n} thousand people"
        " leaves the territory. Comments are welcome until {day}.",
    ),
    (
        "Urgent: {sector} told to patch file-transfer gateway within {few} days",
        "{body} has seen active abuse of a weakness in a widely used gateway. Firms must patch, check logs of"
        " the last 30 days and report findings.",
    ),
    (
        "{body} imposes fine of {n} million on one of the largest {sector}",
        "The decision finds that customer records were kept {few} years longer than the stated retention"
        " period and that deletion requests went unanswered.",
    ),
    (
        "Deadline for {sector} to appoint a data protection lead is {day}",
        "{body} reminds firms to file the name and contact address of the responsible person. Late filings"
        " will be published.",
    ),
    (
        "New template for incident reports by {sector}",
        "{body} has cut the first report to {few} questions. The full report follows within 72 hours, as before.",
    ),
    (
        "{body} publishes findings from {n} on-site inspections of {sector}",
        "Most findings concern shared administrator accounts and access rights that outlive a change of role.",
    ),
    (
        "Consent banners of {sector} under review",
        "{body} will look at whether refusing takes as few steps as accepting. Results are expected by {day}.",
    ),
    (
        "{body} updates its guidance on automated decisions by {sector}",
        "People must be able to ask for a human review, and the reasons for a refusal must be given in plain words.",
    ),
    (
        "Outsourcing register: {sector} must list sub-processors by {day}",
        "The register of {body} will ask for the place of processing, the kind of data and the exit plan of"
        " each provider.",
    ),
    (
        "Settlement closes investigation of lost backup tapes at {sector}",
        "{body} accepted commitments: encryption of all backups, a yearly restore test and {few} years of"
        " independent audit.",
    ),
    (
        "{body} warns {sector} about voice-cloning fraud",
        "Finance staff were asked by telephone to release payments. The regulator advises a call back to a"
        " known number and a second approver.",
    ),
    (
        "Record-keeping of business chats: what {sector} should do now",
        "{body} expects that business conversations on messaging apps are kept for {few} years and can be searched.",
    ),
    (
        "{body} and {sector} agree on a code for children's data",
        "The code sets private defaults, bans location sharing for minors and takes effect on {day}.",
    ),
    (
        "Penetration tests become yearly duty for {sector}",
        "{body} will accept tests by internal teams if the team does not report to the head of operations.",
    ),
    (
        "Court upholds fine against {sector} over marketing calls",
        "The court agreed with {body} that consent gathered through a prize draw was not freely given. The"
        " fine of {n} million stands.",
    ),
    (
        "{body} asks {sector} for an inventory of AI tools",
        "The questionnaire covers training data, human oversight and the handling of errors. The deadline is {day}.",
    ),
    (
        "Whistle-blower channel at {body} now open to staff of {sector}",
        "Reports can be anonymous. The regulator promises a first answer within {few} working days.",
    ),
    (
        "{body} lifts order against three {sector} after remediation",
        "The firms showed that access to production data is now approved by two people and logged.",
    ),
    (
        "Draft rules on biometric entry at {sector}",
        "{body} proposes that a card must always be offered as an alternative. Consultation ends on {day}.",
    ),
    (
        "Urgent recall of a faulty update at {sector}, says {body}",
        "The update switched off audit logging on about {n} thousand devices. Operators should check for gaps"
        " and record them.",
    ),
    (
        "{body} explains how {sector} can use encryption keys held abroad",
        "The note separates custody, control and access, and gives {few} worked examples.",
    ),
    (
        "Anti-bribery training: {sector} reach {n} per cent completion",
        "{body} praises the rate but notes that gift registers are still kept in spreadsheets that anybody can edit.",
    ),
    (
        "Sanctions screening at {sector} misses name variants, {body} finds",
        "In a test with {n} synthetic customers, every third transliteration passed unnoticed. Firms should"
        " re-tune by {day}.",
    ),
    (
        "{body} shortens breach notice for {sector} to 24 hours",
        "The shorter period applies from {day} and only where health or payment data is involved.",
    ),
    (
        "Yearly report: complaints about {sector} fall by {few} per cent",
        "{body} counts fewer complaints about access requests and more about unwanted profiling.",
    ),
)

_BODIES_ZH = ("海湾数据监管局", "北门金融行为办公室", "湖畔隐私委员会", "东湖网络安全局", "云岭市场监督局")
_SECTORS_ZH = (
    "网络借贷平台",
    "物流企业",
    "民营医院",
    "汽车制造商",
    "支付机构",
    "云服务商",
    "在线教育应用",
    "保险公司",
    "招聘网站",
    "智能家居厂商",
    "旅行社",
)
_STORIES_ZH = (
    (
        "{body}就{sector}数据出境规则公开征求意见",
        "草案要求，向境外提供超过{n}万人个人信息前须完成评估。意见反馈截止日期为{day}。",
    ),
    (
        "紧急：{sector}须在{few}日内修补文件传输网关漏洞",
        "{body}已发现漏洞被实际利用，要求各单位立即修补、核查近30天日志并上报结果。",
    ),
    (
        "{body}对一家{sector}处以{n}万元罚款",
        "调查认定，该单位超期{few}年保存客户资料，且未及时答复删除请求。",
    ),
    (
        "{sector}报送数据安全负责人信息的截止日期为{day}",
        "{body}提醒各单位按时报送负责人姓名与联系方式，逾期名单将予公示。",
    ),
    (
        "{sector}安全事件报告启用新模板",
        "{body}将首次报告精简为{few}个问题，完整报告仍须在72小时内提交。",
    ),
    (
        "{body}公布对{sector}的{n}次现场检查结果",
        "主要问题为共用管理员账号，以及岗位变动后权限未及时收回。",
    ),
    (
        "{body}评估{sector}的同意弹窗",
        "重点检查拒绝与同意的步骤是否同样简便，结果预计于{day}前公布。",
    ),
    (
        "{sector}自动化决策指引更新",
        "{body}要求提供人工复核渠道，并以通俗语言说明拒绝理由。",
    ),
    (
        "{sector}须于{day}前登记外包处理方",
        "{body}的登记内容包括处理地点、数据类别以及退出方案。",
    ),
    (
        "{body}提醒{sector}防范语音伪造诈骗",
        "建议财务人员回拨已知号码核实，并由第二人复核付款。",
    ),
    (
        "{sector}业务聊天记录留存要求明确",
        "{body}要求业务沟通记录至少保存{few}年，并可检索。",
    ),
    (
        "{body}与{sector}就未成年人信息保护达成公约",
        "公约默认关闭定位共享，自{day}起实施。",
    ),
    (
        "{sector}渗透测试改为每年一次",
        "{body}允许由内部团队实施，但该团队不得隶属于运维负责人。",
    ),
    (
        "法院维持对{sector}营销电话的罚款决定",
        "法院认同{body}的意见：通过抽奖取得的同意并非自愿，{n}万元罚款维持不变。",
    ),
    (
        "{body}要求{sector}报送人工智能工具清单",
        "问卷涵盖训练数据、人工监督与差错处置，截止日期为{day}。",
    ),
    (
        "{sector}门禁人脸识别规则草案发布",
        "{body}拟要求始终提供刷卡等替代方式，征求意见至{day}。",
    ),
    (
        "紧急召回：{sector}一项更新导致审计日志关闭",
        "{body}称约{n}千台设备受影响，请各单位核查日志缺口并留存记录。",
    ),
    (
        "{body}将{sector}泄露通知时限缩短至24小时",
        "新时限自{day}起适用，仅限涉及健康或支付信息的情形。",
    ),
)


def tell(number: int, day: datetime, *, chinese: bool) -> tuple[str, str]:
    """(title, summary) of the number-th story of a language; the same number and day tell the same story."""
    told = _STORIES_ZH if chinese else _STORIES
    bodies = _BODIES_ZH if chinese else _BODIES
    sectors = _SECTORS_ZH if chinese else _SECTORS
    dice = hashlib.sha256(f"{number}/{chinese}".encode()).digest()
    turn = number // len(told)
    # 7 has no common divisor with 18 or 25: one turn visits every story, and neighbours differ in subject.
    title, summary = told[number * 7 % len(told)]
    due = day + timedelta(days=14 + dice[0] % 60)
    blanks = {
        "body": bodies[(number + turn) % len(bodies)],
        # One sector further each turn, so that a story's next telling has another title.
        "sector": sectors[(number * 4 + turn) % len(sectors)],
        "n": str(12 + dice[1] % 80),
        "few": str(3 + dice[2] % 7),
        "day": f"{due.year}年{due.month}月{due.day}日" if chinese else f"{due.day} {due:%B %Y}",
    }
    title = title.format(**blanks)
    return title[0].upper() + title[1:], summary.format(**blanks)
